// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "comm/backend/first_cause.hpp"
#include "comm/shared_memory/barrier.hpp"
#include "comm/shared_memory/exchange.hpp"

namespace isobar {

/// The collectives of one communicator, carried out in the order of the calls by a
/// thread of its own, or by the thread that waits for the next one: handing it
/// over and back costs more than a small collective.
class SharedQueue : public std::enable_shared_from_this<SharedQueue> {
 public:
  SharedQueue(std::shared_ptr<SharedBarrier> barrier, std::shared_ptr<FirstCause> cause);

  /// Never blocks.
  Work push(Operation operation);

  /// What the thread does. Ends after close(), once nothing is left to do.
  void run();
  /// Nothing is pushed any more. True if nothing is left to do.
  bool close();

  /// The world has failed, or the barrier was stopped: waiters look again.
  void wake();

 private:
  struct Job {
    Operation operation;
    Deadline deadline;
    bool done = false;
  };
  class SharedWork;
  using JobPtr = std::shared_ptr<Job>;
  using Lock = std::unique_lock<std::mutex>;

  bool is_over(const Job& job) const;
  bool may_run() const;
  void wait(const JobPtr& job);
  void run_next(Lock& lock);
  void doze(Lock& lock);
  void give_way(Lock& lock);

  std::shared_ptr<SharedBarrier> barrier_;
  std::shared_ptr<FirstCause> cause_;
  SharedExchange exchange_;

  std::mutex mutex_;
  std::condition_variable ended_;
  std::condition_variable pushed_;
  // Guarded by the mutex; the job in front is the one that runs.
  std::deque<JobPtr> jobs_;
  bool runs_ = false;
  bool closed_ = false;
  /// What went wrong; nothing runs afterwards.
  std::string failure_;
  /// How many jobs in a row their waiters have run.
  int64_t helped_ = 0;
  /// The thread sleeps until it is told; otherwise it looks by itself soon.
  bool sleeps_ = false;
};

}  // namespace isobar
