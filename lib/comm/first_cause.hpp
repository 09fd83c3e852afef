// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <mutex>
#include <string>

namespace isobar {

/// Why a world failed: one for a world and all communicators split from it, so
/// that every rank and every later call reports the same first cause. Safe to
/// use from several threads.
class FirstCause {
 public:
  /// Keeps `message` unless there is a cause already; true if it was kept.
  bool record(const std::string& message);

  bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }

  /// The cause; empty while there is none.
  std::string message() const;

  /// Throws CommError with the cause if there is one.
  void check() const;

 private:
  mutable std::mutex mutex_;
  std::string message_;
  std::atomic<bool> failed_{false};
};

}  // namespace isobar
