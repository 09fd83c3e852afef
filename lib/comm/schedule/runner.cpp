// SPDX-License-Identifier: Apache-2.0
#include "comm/schedule/runner.hpp"

#include <iterator>
#include <utility>

#include "comm/backend/reduce_kernels.hpp"

namespace isobar {
namespace {

/// Does what `schedule` combines once `arrived` receives have, from number `first` on;
/// returns the number of the next.
size_t combine_arrived(const Schedule& schedule, size_t first, int64_t arrived) {
  const auto& all = schedule.combinations;
  while (first < all.size() && all[first].when_arrived <= arrived) {
    const auto& next = all[first++];
    combine_in_order(next.to, next.parts, next.count, schedule.type, schedule.op, schedule.divisor);
  }
  return first;
}

}  // namespace

void ScheduleRunner::Window::begin(const Message& message) {
  ++posted;
  bytes += message.bytes;
  complete.push_back(false);
}

void ScheduleRunner::Window::end(int64_t index, const Message& message) {
  bytes -= message.bytes;
  complete[index - done] = true;
  for (; !complete.empty() && complete.front(); ++done) complete.pop_front();
}

ScheduleRunner::ScheduleRunner(Schedule schedule, const Limits& limits, MessageTransport& transport)
    : schedule_(std::move(schedule)), limits_(limits), transport_(transport) {}

void ScheduleRunner::sent(int64_t index) {
  sends_.end(index, schedule_.sends[index]);
  proceed();
}

void ScheduleRunner::received(int64_t index) {
  receives_.end(index, schedule_.receives[index]);
  proceed();
}

bool ScheduleRunner::finished() const {
  return sends_.done == std::ssize(schedule_.sends) &&
         receives_.done == std::ssize(schedule_.receives);
}

// What has arrived is combined before anything begins that waits for it: a send may carry the sum,
// and a receive may overwrite what went into it.
void ScheduleRunner::proceed() {
  const auto& check = schedule_.check;
  if (!is_checked_ && receives_.done >= check.when_arrived) {
    if (check.run) check.run();
    is_checked_ = true;  // not where it threw: nothing may begin after that
  }
  combined_ = combine_arrived(schedule_, combined_, receives_.done);
  while (may_begin(receives_, schedule_.receives)) {
    const auto index = receives_.posted;
    transport_.receive(schedule_.receives[index], index);
    receives_.begin(schedule_.receives[index]);
  }
  while (may_begin(sends_, schedule_.sends)) {
    const auto index = sends_.posted;
    transport_.send(schedule_.sends[index], index);
    sends_.begin(schedule_.sends[index]);
  }
}

bool ScheduleRunner::may_begin(const Window& window, const std::vector<Message>& messages) const {
  if (window.posted == std::ssize(messages)) return false;
  const auto& next = messages[window.posted];
  if (next.after_arrived > receives_.done || next.after_sent > sends_.done) return false;
  const auto count = window.posted - window.done;
  return count == 0 ||
         (count < limits_.messages && window.bytes + next.bytes <= limits_.window_bytes);
}

}  // namespace isobar
