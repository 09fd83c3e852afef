// SPDX-License-Identifier: Apache-2.0
#include "comm/completion.hpp"

#include <algorithm>
#include <utility>

#include "comm/backend.hpp"

namespace isobar {

Completion::Completion(const Operation& operation, int rank, int size,
                       std::shared_ptr<FirstCause> cause)
    : operation_(operation),
      rank_(rank),
      size_(size),
      cause_(std::move(cause)),
      deadline_(std::chrono::steady_clock::now() + operation.timeout) {}

void Completion::complete() {
  // The last reference to a tensor may go here: not under the lock.
  at::Tensor input;
  at::Tensor output;
  const std::lock_guard lock(mutex_);
  done_ = true;
  std::swap(input, operation_.input);
  std::swap(output, operation_.output);
  changed_.notify_all();
}

bool Completion::is_completed() const {
  const std::lock_guard lock(mutex_);
  return done_ || cause_->failed();
}

void Completion::wait() {
  const int subscription = cause_->subscribe([this] { notify(); });
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline_, [this] { return done_ || cause_->failed(); });
  const bool done = done_;
  const auto complaint =
      done || cause_->failed() ? std::string() : timed_out(operation_, rank_, size_);
  lock.unlock();
  cause_->unsubscribe(subscription);
  if (!done) cause_->fail(complaint);
}

std::chrono::milliseconds Completion::left() const {
  using std::chrono::milliseconds;
  const auto left = deadline_ - std::chrono::steady_clock::now();
  return std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(left));
}

std::string Completion::place() const {
  const std::lock_guard lock(mutex_);
  return isobar::place(operation_, rank_, size_);
}

void Completion::check() {
  cause_->check();
  if (std::chrono::steady_clock::now() < deadline_) return;
  std::unique_lock lock(mutex_);
  const auto complaint = timed_out(operation_, rank_, size_);
  lock.unlock();
  cause_->fail(complaint);
}

void Completion::notify() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

}  // namespace isobar
