// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/backend/first_cause.hpp"
#include "comm/shared_memory/barrier.hpp"
#include "comm/shared_memory/ring.hpp"

namespace isobar {

/// The sends and receives of one rank, beside its collectives.
///
/// A message goes through the ring of its pair as soon as there is room, whether
/// or not it is wanted yet; the receiver always empties its rings, into its own
/// memory where need be. So no pattern of calls can lock up. Whoever waits moves
/// the bytes; a thread does while nobody waits.
class SharedMessages : public std::enable_shared_from_this<SharedMessages> {
 public:
  SharedMessages(std::shared_ptr<SharedBarrier> barrier, std::shared_ptr<FirstCause> cause);

  /// Never blocks.
  Work push(Operation operation);
  /// There is something to do for the thread.
  bool has_pending() const;

  /// What the thread does. Ends after close(), once nothing is left to do.
  void run();
  /// Nothing is pushed any more. True if nothing is left to do.
  bool close();

  /// The world has failed, or the barrier was stopped: waiters look again.
  void wake();

 private:
  /// What goes before the bytes.
  struct Header {
    int32_t tag = 0;
    int32_t type = 0;
    int64_t elements = 0;
    int64_t bytes = 0;
  };
  struct Job {
    Operation operation;
    Deadline deadline;
    bool done = false;
  };
  using JobPtr = std::shared_ptr<Job>;
  /// A message that nobody has asked for yet.
  struct Unexpected {
    Header header;
    std::unique_ptr<char[]> bytes;
  };
  /// One other rank.
  struct Peer {
    Peer(RingEnd to, RingEnd from) : out(to), in(from) {}

    RingEnd out;
    RingEnd in;
    std::deque<JobPtr> sends;
    int64_t sent = 0;  // of the first send, its header included
    std::map<int, std::deque<JobPtr>> receives;
    std::map<int, std::deque<Unexpected>> unexpected;
    // The message that arrives now: for `job`, or into `bytes`.
    bool arriving = false;
    Header header;
    int64_t received = 0;
    JobPtr job;
    std::unique_ptr<char[]> bytes;
  };
  class MessageWork;
  using Lock = std::unique_lock<std::mutex>;

  bool is_over(const Job& job) const;
  void wait(const JobPtr& job);
  void step(Lock& lock);
  bool progress();
  bool send_some(Peer& peer);
  bool receive_some(Peer& peer);
  bool begin_message(Peer& peer);
  bool take_unexpected(Peer& peer, const JobPtr& job);
  void end_message(Peer& peer);
  void finish(const JobPtr& job);
  void check(const Operation& operation, const Header& header) const;
  void check_pending();
  void check_job(const Peer& peer, const Job& job) const;
  void fail(const std::string& failure);

  std::shared_ptr<SharedBarrier> barrier_;
  std::shared_ptr<FirstCause> cause_;

  mutable std::mutex mutex_;
  std::condition_variable wanted_;
  // Guarded by the mutex.
  std::vector<Peer> peers_;
  int pending_ = 0;
  int waiters_ = 0;
  Deadline next_check_ = std::chrono::steady_clock::now() + kSlice;
  bool closed_ = false;
  /// What went wrong; nothing moves afterwards.
  std::string failure_;
};

}  // namespace isobar
