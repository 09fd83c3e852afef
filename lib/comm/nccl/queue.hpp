// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/nccl/flight.hpp"

namespace isobar {

/// The one order in which a process issues NCCL operations to a device, over all
/// its communicators, and what watches over them.
///
/// NCCL's kernels wait for their peers while they hold the device, so operations of
/// two communicators that run in one order here and in another there wait for each
/// other for ever (nccl#195, #522, #592, #783): they must be issued in one order on
/// all ranks, and NCCL's authors ask for a dependency between the streams so that they
/// also run in it. So one thread issues in the order of the calls, and by default
/// (`serialise`) an operation waits on the device for the previous one of any other
/// communicator. A single communicator pays nothing for that, and with several the
/// wire is shared in any case.
///
/// It is a thread of its own because a non-blocking communicator's call has put
/// nothing on the stream when it returns, and the first operations connect to peers:
/// callers are hooks, which never block.
///
/// A task (see DeviceOrder) has one place for all the operations that it issues. All tasks
/// share a stream, so that their computation runs in that order, too.
class NcclQueue : public std::enable_shared_from_this<NcclQueue> {
 public:
  using Clock = NcclLink::Clock;
  using FlightPtr = std::shared_ptr<NcclFlight>;

  NcclQueue(std::shared_ptr<const NcclApi> api, int device);
  NcclQueue(const NcclQueue&) = delete;
  NcclQueue& operator=(const NcclQueue&) = delete;

  /// Counts the communicators: the first starts the threads, and the last to go
  /// stops them for good. False where they were stopped.
  bool attach();
  void detach() noexcept;
  bool has_stopped();

  const std::shared_ptr<const NcclApi>& api() const noexcept { return api_; }
  int device() const noexcept { return device_; }

  /// Never blocks. Inside a task it issues at once, and throws like wait_issued().
  FlightPtr push(std::shared_ptr<NcclLink> link, Operation operation);

  /// `name` says the rank, too; a failure is that of the link's world. Never blocks.
  FlightPtr push_task(std::shared_ptr<NcclLink> link, std::string name,
                      std::chrono::milliseconds timeout, std::function<void()> task);

  bool is_completed(const FlightPtr& flight);

  /// Blocks until the operation is on its stream, or all of the task; the device may still
  /// be at it. Throws CommError with the first cause.
  void wait_issued(const FlightPtr& flight);

  /// Blocks until the operation has ended. Throws like wait_issued().
  void wait_done(const FlightPtr& flight);

  /// Throws the first cause unless the operation is known to have ended well.
  void check(const FlightPtr& flight);

  /// Blocks until all operations of `link` are on its stream, for `limit` at most.
  bool drain(const NcclLink& link, std::chrono::milliseconds limit);

 private:
  using Stage = NcclFlight::Stage;
  enum Side { issuer, watcher };

  class Turn;

  FlightPtr make_flight(std::shared_ptr<NcclLink> link, std::chrono::milliseconds timeout);
  void enqueue(const FlightPtr& flight);
  bool waits_for_its_turn(const NcclLink& link) const;
  Clock::time_point deadline_of(const NcclFlight& flight) const;
  bool is_late(const NcclFlight& flight);
  std::string too_late(const NcclFlight& flight);
  void run(Side side) noexcept;

  // On the issuing thread.
  void issue_all();
  void issue(NcclFlight& flight);
  void issue_inside(NcclFlight& task, const FlightPtr& flight);
  void put_on_stream(NcclFlight& flight);
  void run_task(NcclFlight& flight);
  DeviceEvent mark_end(NcclFlight& flight, DeviceStream stream);

  // On the watching thread.
  void watch_all();
  /// True where nothing is expected of the flight any more.
  bool look_at(const FlightPtr& flight, Stage stage);
  bool is_over(const NcclFlight& flight, Stage stage) const;
  void report(NcclFlight& flight, const std::string& error);
  void suspect(NcclFlight& flight, const std::string& suspicion);
  void land(const FlightPtr& flight, bool well);

  std::shared_ptr<const NcclApi> api_;
  int device_;

  std::mutex mutex_;
  std::condition_variable to_issue_;
  std::condition_variable to_watch_;
  std::condition_variable changed_;
  // Guarded by the mutex.
  std::deque<FlightPtr> queue_;
  FlightPtr issuing_;
  /// Everything whose tensors are still needed, in the order of the calls.
  std::vector<FlightPtr> flying_;
  int communicators_ = 0;
  int running_ = 0;
  bool stop_ = false;
  std::array<std::thread, 2> threads_;

  // The issuing thread's own: what the device does last, and the stream of the tasks.
  std::shared_ptr<NcclLink> last_link_;
  DeviceEvent last_;
  std::optional<DeviceStream> task_stream_;
};

}  // namespace isobar
