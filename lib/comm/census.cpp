// SPDX-License-Identifier: Apache-2.0
// Communicator::start() tells of every call, on the issuing thread, once the backend has taken it;
// the Work that it returns tells of waits, on whatever thread they are. A table outlives its census
// as long as works refer to it, so a start() in the middle of a collective is no harm: what is
// under way is counted where it began.
#include <isobar/comm/census.hpp>

#include "comm/backend/tensor_bytes.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>

namespace isobar {
namespace {

/// The outermost asker of this thread.
thread_local const char* current_asker = nullptr;

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
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
    return row;
  }

  void add_wait(size_t row, double exposed_s, double flight_s) {
    const std::scoped_lock lock(mutex_);
    rows_[row].count.exposed_s += exposed_s;
    rows_[row].count.seconds += flight_s;
    exposed_s_ = exposed_s_ + exposed_s;
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

  mutable std::mutex mutex_;
  std::vector<Row> rows_;  ///< a dozen
  std::atomic<double> exposed_s_{0};
};

/// Another operation's handle that tells how long callers wait for it.
class CollectiveCensus::FollowedWork final : public WorkState {
 public:
  FollowedWork(std::shared_ptr<Table> table, size_t row, const Call& call, Work work)
      : table_(std::move(table)), row_(row), begin_(call.begin), work_(std::move(work)) {}

  bool is_completed() const override { return work_.is_completed(); }
  void wait() override {
    timed([&] { work_.wait(); });
  }
  void synchronize() override {
    timed([&] { work_.synchronize(); });
  }

 private:
  template <typename Wait>
  void timed(const Wait& wait) {
    const auto from = std::chrono::steady_clock::now();
    wait();
    const auto to = std::chrono::steady_clock::now();
    const bool is_first = !was_waited_for_.exchange(true);
    table_->add_wait(row_, seconds_between(from, to), is_first ? seconds_between(begin_, to) : 0);
  }

  std::shared_ptr<Table> table_;
  size_t row_;
  std::chrono::steady_clock::time_point begin_;
  Work work_;
  std::atomic<bool> was_waited_for_{false};
};

CollectiveCensus::CollectiveCensus() = default;
CollectiveCensus::~CollectiveCensus() = default;

void CollectiveCensus::start() { table_ = std::make_shared<Table>(); }
void CollectiveCensus::stop() noexcept { table_.reset(); }

std::vector<CollectiveCount> CollectiveCensus::counts() const {
  return table_ ? table_->counts() : std::vector<CollectiveCount>();
}

double CollectiveCensus::exposed_s() const noexcept { return table_ ? table_->exposed_s() : 0; }

CollectiveCensus::Call CollectiveCensus::call_of(const Operation& operation) {
  return {operation.kind, std::max(byte_count(operation.input), byte_count(operation.output)),
          std::chrono::steady_clock::now()};
}

Work CollectiveCensus::follow(const Call& call, Work work) const {
  const auto row = table_->add(current_asker ? current_asker : "other", call);
  return Work(std::make_shared<FollowedWork>(table_, row, call, std::move(work)));
}

}  // namespace isobar
