// SPDX-License-Identifier: Apache-2.0
#include "comm/control/reports.hpp"

#include <new>
#include <utility>
#include <variant>

namespace isobar::control {
namespace {

constexpr size_t kCallsAMessage = 4096;

bool continues(const Calls& calls, int64_t sequence) {
  return !calls.calls.empty() &&
         calls.first + static_cast<int64_t>(calls.calls.size()) == sequence &&
         calls.calls.size() < kCallsAMessage;
}

}  // namespace

void Reports::issued(uint64_t id, int64_t sequence, const Call& call) noexcept {
  const std::lock_guard lock(mutex_);
  if (issued_.size() == kMaxCalls) issued_.clear();
  try {
    issued_.push_back({id, sequence, call});
  } catch (const std::bad_alloc&) {
    issued_.clear();
  }
}

void Reports::add(ControlMessage message) {
  const std::lock_guard lock(mutex_);
  // A communicator is announced before its calls, and its end comes after them.
  auto& list = std::holds_alternative<Watching>(message) ? before_ : after_;
  list.push_back(std::move(message));
}

std::vector<ControlMessage> Reports::take() {
  std::vector<ControlMessage> messages;
  std::vector<Issued> issued;
  std::vector<ControlMessage> after;
  {
    const std::lock_guard lock(mutex_);
    messages.swap(before_);
    issued.swap(issued_);
    after.swap(after_);
  }
  std::map<uint64_t, Calls> open;
  for (const auto& [id, sequence, call] : issued) {
    auto& calls = open[id];
    if (!continues(calls, sequence)) {
      if (!calls.calls.empty()) messages.emplace_back(std::move(calls));
      calls = Calls{.id = id, .first = sequence, .calls = {}};
    }
    calls.calls.push_back(call);
  }
  for (auto& [id, calls] : open) messages.emplace_back(std::move(calls));
  for (auto& message : after) messages.push_back(std::move(message));
  return messages;
}

}  // namespace isobar::control
