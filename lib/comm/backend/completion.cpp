// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/completion.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include "comm/backend/operation_facts.hpp"

namespace isobar {

Completion::Completion(const Operation& operation, int rank, int size,
                       std::shared_ptr<FirstCause> cause)
    : operation_(operation),
      rank_(rank),
      size_(size),
      cause_(std::move(cause)),
      deadline_(std::chrono::steady_clock::now() + operation.timeout) {}

Completion::Completion(std::string name, std::chrono::milliseconds timeout,
                       std::shared_ptr<FirstCause> cause)
    : name_(std::move(name)),
      cause_(std::move(cause)),
      deadline_(std::chrono::steady_clock::now() + timeout) {
  operation_.timeout = timeout;
}

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

void Completion::fail(const std::string& suspicion) {
  {
    const std::lock_guard lock(mutex_);
    if (done_ || !suspicion_.empty()) return;
    suspicion_ = suspicion;
  }
  cause_->suspect(suspicion);
  notify();
}

bool Completion::is_completed() const {
  const std::lock_guard lock(mutex_);
  return done_ || cause_->failed();
}

void Completion::wait() {
  // Subscribed before the condition is looked at, and never under the lock, which notify() takes.
  std::optional<CauseSubscription> subscription(std::in_place, cause_, [this] { notify(); });
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline_,
                      [this] { return done_ || cause_->failed() || !suspicion_.empty(); });
  const bool done = done_;
  auto suspicion = suspicion_;
  if (!done && suspicion.empty() && !cause_->failed()) suspicion = too_late_locked();
  lock.unlock();
  subscription.reset();
  if (!done) cause_->fail(suspicion);
}

std::chrono::milliseconds Completion::left() const {
  using std::chrono::milliseconds;
  const auto left = deadline_ - std::chrono::steady_clock::now();
  return std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(left));
}

std::string Completion::full_name() const {
  if (!name_.empty()) return name_;
  const std::lock_guard lock(mutex_);
  return isobar::full_name(operation_, rank_, size_);
}

std::string Completion::too_late() const {
  const std::lock_guard lock(mutex_);
  return too_late_locked();
}

std::string Completion::too_late_locked() const {
  if (name_.empty()) return timed_out(operation_, rank_, size_);
  return detail::join(name_, ": no answer in ", in_words(operation_.timeout));
}

void Completion::check() {
  cause_->check();
  if (is_late()) cause_->fail(too_late());
}

void Completion::notify() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

}  // namespace isobar
