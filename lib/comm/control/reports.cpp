// SPDX-License-Identifier: Apache-2.0
#include "comm/control/reports.hpp"

#include <new>
#include <utility>

namespace isobar::control {
namespace {

/// A Report of so many calls is shorter than any message may be.
constexpr size_t kCallsAReport = 8192;

bool continues(const Calls& calls, int64_t sequence) {
  return !calls.calls.empty() && calls.first + static_cast<int64_t>(calls.calls.size()) == sequence;
}

}  // namespace

void Reports::watch(const Watching& watching) {
  const std::lock_guard lock(mutex_);
  watching_.push_back(watching);
}

void Reports::issued(uint64_t id, int64_t sequence, const Call& call,
                     std::optional<uint64_t> row_balance) noexcept {
  const std::lock_guard lock(mutex_);
  if (issued_.size() == kMaxCalls) issued_.clear();
  try {
    issued_.push_back({id, sequence, call, row_balance});
  } catch (const std::bad_alloc&) {
    issued_.clear();
  }
}

void Reports::unwatch(Unwatched unwatched) {
  const std::lock_guard lock(mutex_);
  unwatched_.push_back(std::move(unwatched));
}

void Reports::add(ControlMessage message) {
  const std::lock_guard lock(mutex_);
  others_.push_back(std::move(message));
}

bool Reports::is_urgent() {
  const std::lock_guard lock(mutex_);
  return !watching_.empty() || !unwatched_.empty() || !others_.empty() ||
         issued_.size() > kMaxCalls / 2;
}

std::vector<ControlMessage> Reports::take() {
  // A communicator is announced before its calls, and its end comes after them.
  Report report;
  std::vector<Issued> issued;
  std::vector<Unwatched> unwatched;
  std::vector<ControlMessage> others;
  {
    const std::lock_guard lock(mutex_);
    report.watching.swap(watching_);
    issued.swap(issued_);
    unwatched.swap(unwatched_);
    others.swap(others_);
  }
  std::vector<ControlMessage> messages;
  std::map<uint64_t, size_t> open;
  size_t count = 0;
  for (const auto& [id, sequence, call, row_balance] : issued) {
    if (count++ == kCallsAReport) {
      messages.emplace_back(std::exchange(report, {}));
      open.clear();
      count = 1;
    }
    const auto place = open.find(id);
    if (place == open.end() || !continues(report.calls[place->second], sequence)) {
      open[id] = report.calls.size();
      report.calls.push_back({.id = id, .first = sequence, .calls = {}});
    }
    auto& calls = report.calls[open[id]];
    calls.calls.push_back(call);
    if (row_balance) calls.row_balances.push_back(*row_balance);
  }
  report.unwatched = std::move(unwatched);
  const bool is_empty = report.watching.empty() && report.calls.empty() && report.unwatched.empty();
  if (!is_empty) messages.emplace_back(std::move(report));
  for (auto& message : others) messages.push_back(std::move(message));
  return messages;
}

}  // namespace isobar::control
