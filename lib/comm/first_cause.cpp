// SPDX-License-Identifier: Apache-2.0
#include "comm/first_cause.hpp"

#include <isobar/core/error.hpp>

namespace isobar {

bool FirstCause::record(const std::string& message) {
  const std::lock_guard lock(mutex_);
  if (failed_) return false;
  message_ = message;
  failed_.store(true, std::memory_order_release);
  return true;
}

std::string FirstCause::message() const {
  const std::lock_guard lock(mutex_);
  return message_;
}

void FirstCause::check() const {
  if (failed()) throw CommError(message());
}

}  // namespace isobar
