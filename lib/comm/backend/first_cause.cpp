// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/first_cause.hpp"

#include <isobar/core/error.hpp>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <utility>

namespace isobar {
namespace {

/// How long a verdict may take: the control connection's own limit is shorter.
constexpr std::chrono::seconds kArbitration{5};

}  // namespace

CauseSubscription::CauseSubscription(std::shared_ptr<FirstCause> cause, std::function<void()> wake)
    : cause_(std::move(cause)), id_(cause_->subscribe(std::move(wake))) {}

CauseSubscription::~CauseSubscription() { cause_->unsubscribe(id_); }

bool FirstCause::record(const std::string& message) {
  if (is_copy()) return false;
  {
    const std::lock_guard lock(mutex_);
    if (failed_) return false;
    message_ = message;
    failed_.store(true, std::memory_order_release);
  }
  // A subscriber that comes meanwhile looks at `failed_` under this lock: it is woken here, or
  // there.
  const std::lock_guard lock(subscribers_mutex_);
  for (const auto& [id, wake] : subscribers_) wake();
  return true;
}

void FirstCause::suspect(const std::string& suspicion) {
  if (is_copy()) return;
  {
    const std::lock_guard lock(arbiter_mutex_);
    if (arbiter_) return arbiter_(suspicion);
  }
  record(suspicion);
}

void FirstCause::fail(const std::string& suspicion) {
  check();
  suspect(suspicion);
  struct Wait {
    std::mutex mutex;
    std::condition_variable there;
  };
  const auto wait = std::make_shared<Wait>();
  const int id = subscribe([wait] {
    const std::lock_guard lock(wait->mutex);
    wait->there.notify_all();
  });
  {
    std::unique_lock lock(wait->mutex);
    wait->there.wait_for(lock, kArbitration, [this] { return failed(); });
  }
  unsubscribe(id);
  record(suspicion);
  throw CommError(message());
}

std::string FirstCause::message() const {
  if (is_copy()) {
    return detail::join("process ", getpid(), " is a fork of process ", home_.pid(),
                        ", which has the communicator: communicate there, or start a program of "
                        "its own that makes one");
  }
  const std::lock_guard lock(mutex_);
  return message_;
}

void FirstCause::check() const {
  if (failed()) throw CommError(message());
}

int FirstCause::subscribe(std::function<void()> wake) {
  if (is_copy()) return wake(), 0;
  const std::lock_guard lock(subscribers_mutex_);
  if (failed()) wake();
  subscribers_.emplace(next_id_, std::move(wake));
  return next_id_++;
}

void FirstCause::unsubscribe(int id) {
  if (is_copy()) return;
  const std::lock_guard lock(subscribers_mutex_);
  subscribers_.erase(id);
}

void FirstCause::set_arbiter(std::function<void(const std::string& suspicion)> arbiter) {
  if (is_copy()) return;
  const std::lock_guard lock(arbiter_mutex_);
  arbiter_ = std::move(arbiter);
}

}  // namespace isobar
