// SPDX-License-Identifier: Apache-2.0
// Communicator::start() tells of every call, on the issuing thread, once the backend has taken it;
// the Work that it returns tells of waits, on whatever thread they are. A table outlives its census
// as long as works refer to it, so a start() in the middle of a collective is no harm: what is
// under way is counted where it began.
//
// A transport does not say when an operation ended. Where spans are kept, the table asks those of
// buckets whenever it is called anyway, the oldest first and no other before that has ended: one
// question a call. Others are not asked, since there may be hundreds (halos).
#include <isobar/comm/census.hpp>

#include "comm/backend/tensor_bytes.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

namespace isobar {
namespace {

using Clock = std::chrono::steady_clock;

/// A pass over a batch has hundreds of waits; a validation, whose waits nobody takes, has more.
constexpr size_t kMostSpans = 1 << 14;

/// The outermost asker of this thread.
thread_local const char* current_asker = nullptr;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

CollectiveAsker::CollectiveAsker(const char* name) noexcept
    : is_outermost_(current_asker == nullptr) {
  if (is_outermost_) current_asker = name;
}

CollectiveAsker::~CollectiveAsker() {
  if (is_outermost_) current_asker = nullptr;
}

class CollectiveCensus::Table {
 public:
  /// Counts a call, and says in which row.
  size_t add(const char* asker, const Call& call) {
    const std::scoped_lock lock(mutex_);
    size_t row = 0;
    while (row < rows_.size() && !rows_[row].is_of(asker, call.kind)) ++row;
    if (row == rows_.size()) rows_.push_back({asker, {asker, call.kind}});
    ++rows_[row].count.calls;
    rows_[row].count.bytes += call.bytes;
    see_ends();
    return row;
  }

  /// `is_first`: nobody had waited for it before.
  void add_wait(const FollowedWork& work, bool is_first, Clock::time_point from,
                Clock::time_point to);

  // Of works that carry buckets, from their call until their first wait has returned or they are
  // destroyed.
  void watch(FollowedWork& work) {
    const std::scoped_lock lock(mutex_);
    if (keeps_spans_) in_flight_.push_back(&work);
  }
  void forget(FollowedWork& work) {
    const std::scoped_lock lock(mutex_);
    std::erase(in_flight_, &work);
  }
  void look() {
    const std::scoped_lock lock(mutex_);
    see_ends();
  }

  void keep_spans() {
    const std::scoped_lock lock(mutex_);
    keeps_spans_ = true;
  }

  void take_spans(std::vector<CollectiveSpan>& spans) {
    spans.clear();
    const std::scoped_lock lock(mutex_);
    see_ends();
    spans.swap(spans_);
  }

  std::vector<CollectiveCount> counts() const {
    const std::scoped_lock lock(mutex_);
    std::vector<CollectiveCount> counts;
    for (const auto& row : rows_) counts.push_back(row.count);
    return counts;
  }

  double exposed_s() const noexcept { return exposed_s_; }

 private:
  struct Row {
    const char* asker;
    CollectiveCount count;

    /// The same literal may lie at several addresses.
    bool is_of(const char* name, OperationKind kind) const {
      return count.operation == kind && (asker == name || std::strcmp(asker, name) == 0);
    }
  };

  void see_ends();

  mutable std::mutex mutex_;
  std::vector<Row> rows_;  ///< a dozen
  bool keeps_spans_ = false;
  std::vector<CollectiveSpan> spans_;     ///< since they were taken
  std::vector<FollowedWork*> in_flight_;  ///< that nobody has seen end, the oldest first
  std::atomic<double> exposed_s_{0};
};

/// Another operation's handle that tells how long callers wait for it.
class CollectiveCensus::FollowedWork final : public WorkState {
 public:
  FollowedWork(std::shared_ptr<Table> table, size_t row, const Call& call, Work work)
      : table_(std::move(table)), row_(row), call_(call), work_(std::move(work)) {
    if (call_.bucket >= 0) table_->watch(*this);
  }
  ~FollowedWork() override {
    if (call_.bucket >= 0) table_->forget(*this);
  }
  FollowedWork(const FollowedWork&) = delete;
  FollowedWork& operator=(const FollowedWork&) = delete;

  bool is_completed() const override { return work_.is_completed(); }
  void wait() override {
    timed([&] { work_.wait(); });
  }
  void synchronize() override {
    timed([&] { work_.synchronize(); });
  }

 private:
  friend Table;

  template <typename Wait>
  void timed(const Wait& wait) {
    if (call_.bucket >= 0) table_->look();
    const auto from = Clock::now();
    wait();
    const auto to = Clock::now();
    table_->add_wait(*this, !was_waited_for_.exchange(true), from, to);
  }

  std::shared_ptr<Table> table_;
  size_t row_;
  Call call_;
  std::optional<Clock::time_point> ended_;  ///< seen by the table, under its lock
  Work work_;
  std::atomic<bool> was_waited_for_{false};
};

void CollectiveCensus::Table::add_wait(const FollowedWork& work, bool is_first,
                                       Clock::time_point from, Clock::time_point to) {
  const std::scoped_lock lock(mutex_);
  auto& count = rows_[work.row_].count;
  const double exposed_s = seconds_between(from, to);
  count.exposed_s += exposed_s;
  if (is_first) count.seconds += seconds_between(work.call_.begin, to);
  exposed_s_ = exposed_s_ + exposed_s;
  if (is_first) std::erase(in_flight_, &work);
  if (!keeps_spans_ || spans_.size() == kMostSpans) return;
  if (is_first) {
    const auto& call = work.call_;
    spans_.push_back({call.bucket, call.bytes, call.begin, work.ended_.value_or(to), from, to});
  } else {  // nothing but a wait: the first has told of the rest
    spans_.push_back({.call = from, .ended = to, .wait_begin = from, .wait_end = to});
  }
  see_ends();
}

/// Under the lock.
void CollectiveCensus::Table::see_ends() {
  while (!in_flight_.empty() && in_flight_.front()->is_completed()) {
    in_flight_.front()->ended_ = Clock::now();
    in_flight_.erase(in_flight_.begin());
  }
}

CollectiveCensus::CollectiveCensus() = default;
CollectiveCensus::~CollectiveCensus() = default;

void CollectiveCensus::start() { table_ = std::make_shared<Table>(); }
void CollectiveCensus::stop() noexcept { table_.reset(); }

std::vector<CollectiveCount> CollectiveCensus::counts() const {
  return table_ ? table_->counts() : std::vector<CollectiveCount>();
}

double CollectiveCensus::exposed_s() const noexcept { return table_ ? table_->exposed_s() : 0; }

void CollectiveCensus::keep_spans() {
  if (table_) table_->keep_spans();
}

void CollectiveCensus::take_spans(std::vector<CollectiveSpan>& spans) {
  spans.clear();
  if (table_) table_->take_spans(spans);
}

CollectiveCensus::Call CollectiveCensus::call_of(const Operation& operation) {
  return {operation.kind, std::max(byte_count(operation.input), byte_count(operation.output)),
          operation.mark.bucket, Clock::now()};
}

Work CollectiveCensus::follow(const Call& call, Work work) const {
  const auto row = table_->add(current_asker ? current_asker : "other", call);
  return Work(std::make_shared<FollowedWork>(table_, row, call, std::move(work)));
}

}  // namespace isobar
