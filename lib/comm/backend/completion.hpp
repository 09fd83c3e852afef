// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "comm/backend/first_cause.hpp"

namespace isobar {

/// The handle of an operation that a thread of the backend ends, by complete() or fail().
/// Whoever waits leaves at once when the world fails.
class Completion final : public WorkState {
 public:
  /// The time limit of `operation` runs from now on. Its tensors are kept until it ends.
  Completion(const Operation& operation, int rank, int size, std::shared_ptr<FirstCause> cause);

  /// Of a call that is no operation, such as "split".
  Completion(std::string name, std::chrono::milliseconds timeout,
             std::shared_ptr<FirstCause> cause);

  /// It went well. Safe to call from any thread.
  void complete();

  /// It went wrong: the world's cause is asked for, and whoever waits hears the verdict. Of several
  /// suspicions the first counts. Safe to call from any thread; never blocks.
  void fail(const std::string& suspicion);

  bool is_completed() const override;
  void wait() override;
  void synchronize() override { wait(); }

  /// What is left of the time limit; at least a millisecond.
  std::chrono::milliseconds left() const;

  /// The time is over.
  bool is_late() const { return std::chrono::steady_clock::now() >= deadline_; }

  /// "allreduce #41 on rank 3 of 8", and what to say once the time is over; not after complete().
  std::string full_name() const;
  std::string too_late() const;

  /// Throws the cause of the world's failure; one that it took too long, where it did.
  void check();

 private:
  void notify();
  std::string too_late_locked() const;

  /// Empty for an operation.
  std::string name_;
  Operation operation_;
  int rank_ = 0;
  int size_ = 1;
  std::shared_ptr<FirstCause> cause_;
  std::chrono::steady_clock::time_point deadline_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string suspicion_;
};

using CompletionPtr = std::shared_ptr<Completion>;

}  // namespace isobar
