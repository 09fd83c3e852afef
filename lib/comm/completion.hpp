// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "comm/first_cause.hpp"

namespace isobar {

/// The handle of an operation that a thread of the backend ends by complete().
/// Whoever waits leaves at once when the world fails.
class Completion final : public WorkState {
 public:
  /// The time limit of `operation` runs from now on. Its tensors are not kept.
  Completion(const Operation& operation, int rank, int size, std::shared_ptr<FirstCause> cause);

  /// It went well. Safe to call from any thread.
  void complete();

  bool is_completed() const override;
  void wait() override;
  void synchronize() override { wait(); }

  /// What is left of the time limit; at least a millisecond.
  std::chrono::milliseconds left() const;

  /// "allreduce #41 on rank 3 of 8".
  std::string place() const;

  /// Throws the cause of the world's failure; one that it took too long, where it did.
  void check();

 private:
  void notify();

  Operation operation_;
  int rank_;
  int size_;
  std::shared_ptr<FirstCause> cause_;
  std::chrono::steady_clock::time_point deadline_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
};

}  // namespace isobar
