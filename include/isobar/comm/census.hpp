// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// Says who asks for the collectives that this thread issues while it lives, for a
/// CollectiveCensus. Of nested ones the outermost counts. Costs two stores; communicates nothing.
///
///     const CollectiveAsker asker("norm");
///     world.allreduce(sum).wait();
class [[nodiscard]] CollectiveAsker {
 public:
  /// `name` must outlive this: a literal.
  explicit CollectiveAsker(const char* name) noexcept;
  ~CollectiveAsker();
  CollectiveAsker(const CollectiveAsker&) = delete;
  CollectiveAsker& operator=(const CollectiveAsker&) = delete;

 private:
  bool is_outermost_;
};

/// Calls of one operation by one asker, of this rank. Seconds are the caller's clock.
struct CollectiveCount {
  std::string asker;  ///< "other" where nobody gave a name
  OperationKind operation = OperationKind::barrier;
  int64_t calls = 0;
  int64_t bytes = 0;     ///< of all calls, each the larger of what it reads and what it writes
  double seconds = 0;    ///< from a call until its wait has returned: what it took, or more
  double exposed_s = 0;  ///< that callers have waited; the rest was hidden behind other work
};

/// A wait for a collective, once it has returned, by this rank's clock.
struct CollectiveSpan {
  using TimePoint = std::chrono::steady_clock::time_point;

  int32_t bucket = -1;  ///< of a reducer's plan; negative for whatever is no bucket
  int64_t bytes = 0;    ///< as a CollectiveCount has them
  TimePoint call;       ///< when it was issued
  /// When this rank first saw that it had ended: at the next collective of a bucket that it issued
  /// or waited for, at take_spans(), or in this wait. A transport ends it by itself, earlier.
  TimePoint ended;
  TimePoint wait_begin;
  TimePoint wait_end;
};

/// Counts what a world's communicators issue on this rank, once it is started: the world's own and
/// those that are split from it, by asker and operation. A communicator of one rank sends nothing,
/// so nothing of it is counted.
///
/// start() and stop() belong to the thread that issues collectives; the rest is safe to call from
/// any. A call costs about as much as two reads of the clock.
class CollectiveCensus {
 public:
  CollectiveCensus();
  ~CollectiveCensus();
  CollectiveCensus(const CollectiveCensus&) = delete;
  CollectiveCensus& operator=(const CollectiveCensus&) = delete;

  /// Counts from now on, from zero. What is under way is not counted.
  void start();
  void stop() noexcept;

  /// In the order of their first calls; empty before start().
  std::vector<CollectiveCount> counts() const;

  /// The sum of all exposed_s; 0 before start().
  double exposed_s() const noexcept;

  /// Keeps the waits that return from now on until stop(), for take_spans(): the first 16,384 since
  /// it was called last. After start().
  void keep_spans();

  /// Replaces `spans` by what was kept since the last time, in the order in which waits returned.
  /// Memory is used again: once it is large enough, none is asked for.
  void take_spans(std::vector<CollectiveSpan>& spans);

 private:
  friend class Communicator;
  class Table;
  class FollowedWork;

  /// What is kept of a call while the backend has the operation.
  struct Call {
    OperationKind kind = OperationKind::barrier;
    int64_t bytes = 0;
    int32_t bucket = -1;
    CollectiveSpan::TimePoint begin;
  };
  bool is_counting() const noexcept { return table_ != nullptr; }
  static Call call_of(const Operation& operation);
  Work follow(const Call& call, Work work) const;

  std::shared_ptr<Table> table_;  ///< null while nothing is counted
};

}  // namespace isobar
