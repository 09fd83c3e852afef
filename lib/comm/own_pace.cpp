// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/own_pace.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace isobar {
namespace {

using std::chrono::milliseconds;

/// Ends the stage of a rank that is well, where another's has failed.
struct Stopped {};

/// A stage on its thread.
class Worker {
 public:
  explicit Worker(const std::function<void(const Advance&)>& stage)
      : thread_([this, &stage] { run(stage); }) {}

  ~Worker() {
    stop();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Whether the stage has ended, after at most so long.
  bool ended_within(milliseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [this] { return ended_; });
  }

  void stop() { stop_ = true; }
  int64_t done() const { return done_; }

  /// Once it has ended.
  bool failed() const { return error_ != nullptr; }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void run(const std::function<void(const Advance&)>& stage) {
    std::exception_ptr error;
    try {
      stage([this](int64_t units) {
        done_ += units;
        if (stop_) throw Stopped{};
      });
    } catch (const Stopped&) {
    } catch (...) {
      error = std::current_exception();
    }
    const std::scoped_lock lock(mutex_);
    error_ = error;
    ended_ = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int64_t> done_ = 0;
  std::atomic<bool> stop_ = false;
  bool ended_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // last: it uses what is above
};

/// Of all ranks together.
struct State {
  int64_t done = 0, running = 0, failed = 0;
};

State sum_over(Communicator& comm, const State& own) {
  auto sum = at::empty({3}, at::kLong);
  auto* values = sum.mutable_data_ptr<int64_t>();
  values[0] = own.done;
  values[1] = own.running;
  values[2] = own.failed;
  comm.allreduce(sum).synchronize();
  return {values[0], values[1], values[2]};
}

}  // namespace

// A rank that has ended goes straight into the next allreduce and waits there for those that have
// not, each of which comes after `pause` at the latest.
void run_at_own_pace(Communicator& comm, const std::function<void(const Advance&)>& stage,
                     const std::function<void(int64_t done)>& progress) {
  Worker worker(stage);
  const milliseconds longest = std::min<milliseconds>(comm.timeout() / 8, milliseconds(1000));
  milliseconds pause(5);
  while (true) {
    const bool ended = worker.ended_within(pause);
    const State all = sum_over(comm, {worker.done(), ended ? 0 : 1, ended && worker.failed()});
    if (progress) progress(all.done);
    if (all.failed > 0) worker.stop();
    if (all.running == 0) break;
    pause = std::clamp(2 * pause, milliseconds(1), longest);
  }
  run_agreed(comm, [&] { worker.rethrow(); });
}

}  // namespace isobar
