// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

namespace isobar {

/// What a backend keeps for one operation in flight. Backends derive from it;
/// users see Work.
class WorkState {
 public:
  virtual ~WorkState() = default;

  /// True once the operation has ended, well or badly. Never blocks.
  virtual bool is_completed() const = 0;

  /// Makes the current stream wait for the result; on the CPU it blocks.
  /// Throws the operation's CommError.
  virtual void wait() = 0;

  /// Blocks the caller until the result is there. Throws like wait().
  virtual void synchronize() = 0;
};

/// A handle to one asynchronous operation of a Communicator.
///
/// The tensors handed to the operation are kept alive by it, and must not be
/// read or written before wait() has returned. Copies refer to the same
/// operation; waiting twice is allowed. Destroying a Work neither waits nor
/// cancels. An empty Work is complete.
class Work {
 public:
  Work() = default;
  explicit Work(std::shared_ptr<WorkState> state) : state_(std::move(state)) {}

  /// True once the operation has ended, well or badly. Never blocks.
  bool is_completed() const { return !state_ || state_->is_completed(); }

  /// Orders the current stream behind the result; on the CPU it blocks.
  /// Throws CommError if the operation failed or its time limit passed.
  void wait() {
    if (state_) state_->wait();
  }

  /// Blocks the caller until the result is there. Throws like wait().
  void synchronize() {
    if (state_) state_->synchronize();
  }

 private:
  std::shared_ptr<WorkState> state_;
};

}  // namespace isobar
