// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/job_queue.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "comm/backend/fork.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/short_slices.hpp"

namespace isobar {
namespace {

constexpr std::chrono::seconds kStopLimit{1};

}  // namespace

/// Shared with the threads, which may outlive the queue.
struct JobQueue::State {
  HomeProcess home;
  int limit = 1;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;
  int threads = 0;
  int idle = 0;
  bool stop = false;
  bool abandoned = false;

  /// The next job; an empty one at the end.
  std::function<void()> next() {
    std::unique_lock lock(mutex);
    ++idle;
    changed.wait(lock, [this] { return stop || !jobs.empty(); });
    --idle;
    if (jobs.empty()) return {};
    auto job = std::move(jobs.front());
    jobs.pop_front();
    return job;
  }

  void run() {
    const ShortSlices slices;
    while (auto job = next()) job();
    const std::lock_guard lock(mutex);
    --threads;
    changed.notify_all();
  }
};

JobQueue::JobQueue(int threads) : state_(std::make_shared<State>()) { state_->limit = threads; }

JobQueue::~JobQueue() {
  if (!state_->home.is_here()) {
    keep_to_the_end(std::move(state_));
    return;
  }
  std::unique_lock lock(state_->mutex);
  state_->stop = true;
  state_->changed.notify_all();
  const auto patience = state_->abandoned ? std::chrono::seconds(0) : kStopLimit;
  state_->changed.wait_for(lock, patience, [this] { return state_->threads == 0; });
}

void JobQueue::abandon() {
  const std::lock_guard lock(state_->mutex);
  state_->abandoned = true;
}

void JobQueue::add(std::function<void()> job) {
  const std::lock_guard lock(state_->mutex);
  state_->jobs.push_back(std::move(job));
  const auto waiting = static_cast<int>(state_->jobs.size());
  if (waiting > state_->idle && state_->threads < state_->limit) {
    ++state_->threads;
    std::thread([state = state_] { state->run(); }).detach();
  }
  state_->changed.notify_all();
}

}  // namespace isobar
