// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <atomic>
#include <memory>
#include <thread>

#include "comm/backend/first_cause.hpp"
#include "comm/shared_memory/barrier.hpp"
#include "comm/shared_memory/messages.hpp"
#include "comm/shared_memory/queue.hpp"

namespace isobar {

/// One rank's part in a segment: its queues and the threads that work them off.
class SharedMember {
 public:
  SharedMember(std::shared_ptr<SharedSegment> segment, int rank, std::shared_ptr<FirstCause> cause,
               bool own_cores);

  /// Waits until everything issued has ended, which is at once after a failure.
  ~SharedMember();
  SharedMember(const SharedMember&) = delete;
  SharedMember& operator=(const SharedMember&) = delete;

  bool own_cores() const noexcept { return barrier_->spin_then_sleep().own_cores(); }

  /// Never blocks.
  Work start(Operation operation);

  /// Nothing is issued any more. What has been is still carried out by the member's
  /// threads, since others may wait for it, but not where this rank left by an
  /// exception. The member ends with it: here, or at the end of the program.
  static void retire(std::unique_ptr<SharedMember> member, Presence how) noexcept;

 private:
  bool close(Presence how);
  void leave_if_closed() noexcept;

  std::shared_ptr<FirstCause> cause_;
  std::shared_ptr<SharedBarrier> barrier_;
  std::shared_ptr<SharedQueue> queue_;
  std::shared_ptr<SharedMessages> messages_;
  CauseSubscription subscription_;
  std::atomic<Presence> presence_{Presence::attached};
  std::atomic<int> working_{1};
  std::thread collectives_;
  /// Starts with the first message that cannot go at once.
  std::thread moving_;
};

}  // namespace isobar
