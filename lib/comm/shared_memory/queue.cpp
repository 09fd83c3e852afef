// SPDX-License-Identifier: Apache-2.0
// The job in front is run by whoever comes first: the thread that waits for it, or the queue's own.
// `runs_` says that somebody does, and the mutex is free meanwhile; nobody else touches the
// exchange then. Jobs run in the order of the calls, which is the order of the other ranks. After a
// failure nothing runs any more: the ranks' barriers no longer agree.
#include "comm/shared_memory/queue.hpp"

#include <sched.h>

#include <chrono>
#include <exception>
#include <utility>

#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

using Clock = std::chrono::steady_clock;

/// A caller that has waited so often at once will do so again: its pushes do not wake the thread,
/// which takes a core from somebody, finds nothing to do and sleeps again. In case it computes
/// instead this time, the thread looks by itself after a nap.
constexpr int kHabit = 4;
constexpr std::chrono::microseconds kNap{300};
/// With nothing pushed for so many naps it sleeps until it is told.
constexpr int kIdleNaps = 10;

}  // namespace

class SharedQueue::SharedWork final : public WorkState {
 public:
  SharedWork(std::shared_ptr<SharedQueue> queue, JobPtr job)
      : queue_(std::move(queue)), job_(std::move(job)) {}

  bool is_completed() const override {
    const std::lock_guard lock(queue_->mutex_);
    return job_->done || queue_->cause_->failed();
  }
  void wait() override { queue_->wait(job_); }
  void synchronize() override { queue_->wait(job_); }

 private:
  std::shared_ptr<SharedQueue> queue_;
  JobPtr job_;
};

SharedQueue::SharedQueue(std::shared_ptr<SharedBarrier> barrier, std::shared_ptr<FirstCause> cause)
    : barrier_(std::move(barrier)), cause_(std::move(cause)), exchange_(*barrier_) {}

Work SharedQueue::push(Operation operation) {
  const auto job = std::make_shared<Job>();
  job->deadline = Clock::now() + operation.timeout;
  job->operation = std::move(operation);
  bool tell = false;
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(job);
    tell = !runs_ && (sleeps_ || helped_ < kHabit || jobs_.size() > 1);
  }
  if (tell) pushed_.notify_one();
  return Work(std::make_shared<SharedWork>(shared_from_this(), job));
}

bool SharedQueue::is_over(const Job& job) const {
  return job.done || !failure_.empty() || cause_->failed();
}

bool SharedQueue::may_run() const { return !runs_ && !jobs_.empty() && failure_.empty(); }

void SharedQueue::wait(const JobPtr& job) {
  Lock lock(mutex_);
  while (!is_over(*job)) {
    const bool first = jobs_.front() == job;
    if (first && may_run()) {
      ++helped_;
      run_next(lock);
    } else if (first) {
      ended_.wait(lock);  // who runs it minds the time
    } else if (ended_.wait_until(lock, job->deadline) == std::cv_status::timeout &&
               !is_over(*job) && jobs_.front() != job) {
      failure_ = timed_out(job->operation, barrier_->rank(), barrier_->size());
    }
  }
  if (job->done) return;
  const auto failure = failure_;
  lock.unlock();
  cause_->fail(failure);
}

void SharedQueue::run_next(Lock& lock) {
  const auto job = jobs_.front();
  runs_ = true;
  lock.unlock();
  std::string failure;
  try {
    exchange_.run(job->operation, job->deadline);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  Operation finished;  // a tensor's last reference may go with it: not under the lock
  lock.lock();
  runs_ = false;
  if (failure.empty()) {
    job->done = true;
    std::swap(finished, job->operation);
    jobs_.pop_front();
  } else if (failure_.empty()) {
    failure_ = failure;
  }
  const bool more = may_run();
  ended_.notify_all();
  lock.unlock();
  if (more) pushed_.notify_one();
  if (!failure.empty() && !barrier_->stopped()) cause_->suspect(failure);
  finished = {};
  lock.lock();
}

void SharedQueue::run() {
  Lock lock(mutex_);
  while (failure_.empty() && !cause_->failed()) {
    if (may_run()) {
      helped_ = 0;
      run_next(lock);
    } else if (closed_ && jobs_.empty()) {
      return;
    } else {
      doze(lock);
      give_way(lock);
    }
  }
}

// Who has just pushed may be about to wait, and then runs the job better itself.
void SharedQueue::give_way(Lock& lock) {
  if (jobs_.size() != 1 || runs_) return;
  lock.unlock();
  sched_yield();
  lock.lock();
}

void SharedQueue::doze(Lock& lock) {
  const auto look_again = [this] {
    return may_run() || closed_ || !failure_.empty() || cause_->failed();
  };
  int idle = 0;
  auto seen = helped_;
  while (helped_ >= kHabit && idle < kIdleNaps) {
    if (pushed_.wait_for(lock, kNap) == std::cv_status::no_timeout || look_again()) return;
    idle = helped_ == seen ? idle + 1 : 0;
    seen = helped_;
  }
  sleeps_ = true;
  pushed_.wait(lock, look_again);
  sleeps_ = false;
}

bool SharedQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  pushed_.notify_all();
  return jobs_.empty() || !failure_.empty() || cause_->failed();
}

void SharedQueue::wake() {
  const std::lock_guard lock(mutex_);
  ended_.notify_all();
  pushed_.notify_all();
}

}  // namespace isobar
