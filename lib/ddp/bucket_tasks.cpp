// SPDX-License-Identifier: Apache-2.0
// Hooks push, the thread that issues runs, and finish() waits. A task refers to its reducer, so the
// reducer's end waits for those that it has pushed: they have no peers to wait for, only their
// turn. Where the world fails, they will not all run; then the gate closes.
#include "ddp/bucket_tasks.hpp"

#include <isobar/core/error.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace isobar {
namespace {

/// How long a task of a world that has failed may take to leave.
constexpr std::chrono::seconds kPatienceOfTasks{5};

}  // namespace

/// What a task passes to begin; shared, since a task may come after its reducer has gone.
class BucketTasks::Gate {
 public:
  void pass(const std::function<void()>& task) {
    enter();
    try {
      task();
    } catch (...) {
      leave();
      throw;
    }
    leave();
  }

  void close() {
    std::unique_lock lock(mutex_);
    is_closed_ = true;
    has_left_.wait_for(lock, kPatienceOfTasks, [this] { return !is_inside_; });
  }

 private:
  void enter() {
    const std::lock_guard lock(mutex_);
    if (is_closed_) throw CommError("the reducer has gone, or its world has failed");
    is_inside_ = true;
  }

  void leave() {
    const std::lock_guard lock(mutex_);
    is_inside_ = false;
    has_left_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable has_left_;
  bool is_closed_ = false;
  bool is_inside_ = false;
};

BucketTasks::BucketTasks(std::unique_ptr<DeviceOrder> order)
    : order_(std::move(order)), gate_(std::make_shared<Gate>()) {}

BucketTasks::~BucketTasks() { clear(); }

void BucketTasks::push(std::function<void()> task) {
  works_.push_back(order_->push(detail::join("gradients of bucket ", works_.size()),
                                [gate = gate_, task = std::move(task)] { gate->pass(task); }));
}

// A compressor is on one thread at a time: it ends a bucket on this one, when no task is left.
void BucketTasks::wait(int64_t bucket) {
  order_->await_tasks();
  works_[bucket].wait();
  works_[bucket] = Work();
}

void BucketTasks::clear() noexcept {
  try {
    for (auto& work : works_) work.wait();
  } catch (const std::exception&) {  // whoever called finish() has heard of it
    gate_->close();
  }
  works_.clear();
}

}  // namespace isobar
