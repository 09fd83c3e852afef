// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "comm/backend/fork.hpp"

namespace isobar {

/// What a world is in a child that fork() makes of one of its processes.
enum class AfterFork {
  /// Failed there, since the connections and threads are the parent's.
  failed,
  /// As usable as before: it has neither.
  usable,
};

class FirstCause;

/// A subscriber of a cause, which it keeps, to the end of its scope: afterwards it is not running
/// and will not be called. A member that is declared after what the subscriber uses, and before
/// what may throw in its owner's constructor.
class CauseSubscription {
 public:
  CauseSubscription(std::shared_ptr<FirstCause> cause, std::function<void()> wake);
  ~CauseSubscription();
  CauseSubscription(const CauseSubscription&) = delete;
  CauseSubscription& operator=(const CauseSubscription&) = delete;

 private:
  std::shared_ptr<FirstCause> cause_;
  int id_;
};

/// Why a world failed: one for a world and all communicators split from it, so
/// that every rank and every later call reports the same first cause. Safe to
/// use from several threads.
///
/// A rank that sees a connection break does not know yet who died, and two ranks
/// may see different ends of one failure. Where an arbiter is set (the control
/// connection), transports therefore report what they see by suspect(), and the
/// arbiter records the one cause that all ranks get.
class FirstCause {
 public:
  explicit FirstCause(AfterFork after_fork = AfterFork::failed) : after_fork_(after_fork) {}

  /// Keeps `message` unless there is a cause already; true if it was kept. The
  /// subscribers are called before it returns, without a lock of theirs held by
  /// this object.
  bool record(const std::string& message);

  /// Something failed here. Without an arbiter it is the cause at once; with one
  /// the arbiter is asked, and records a cause within seconds. Never blocks.
  void suspect(const std::string& suspicion);

  /// Throws the cause as CommError. Where there is none yet, suspect(suspicion) and
  /// blocks until there is one, at most as long as an arbitration may take; then
  /// the suspicion itself is the cause.
  [[noreturn]] void fail(const std::string& suspicion);

  bool failed() const noexcept { return failed_.load(std::memory_order_acquire) || is_copy(); }

  /// True in a child made by fork(): the world is the parent's. Nothing here takes a lock then,
  /// records or calls anybody.
  bool is_copy() const noexcept { return after_fork_ == AfterFork::failed && !home_.is_here(); }

  /// The cause; empty while there is none.
  std::string message() const;

  /// Throws CommError with the cause if there is one.
  void check() const;

  /// `wake` is called from the recording thread when the cause is there, and at
  /// once if it is there already (twice where both happen together). It must not
  /// block and not call this object but failed() and message().
  int subscribe(std::function<void()> wake);

  /// Afterwards the subscriber is not running and will not be called.
  void unsubscribe(int id);

  /// Who decides between suspicions; empty for nobody. It must not block.
  void set_arbiter(std::function<void(const std::string& suspicion)> arbiter);

 private:
  AfterFork after_fork_;
  HomeProcess home_;
  mutable std::mutex mutex_;
  std::string message_;
  std::atomic<bool> failed_{false};

  /// Held while subscribers run, so that unsubscribe() waits for them.
  std::mutex subscribers_mutex_;
  std::map<int, std::function<void()>> subscribers_;
  int next_id_ = 0;

  std::mutex arbiter_mutex_;
  std::function<void(const std::string&)> arbiter_;
};

}  // namespace isobar
