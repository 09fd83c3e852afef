// SPDX-License-Identifier: Apache-2.0
#include "comm/gloo/announced_exchange.hpp"

#include <isobar/core/error.hpp>

#include <iterator>
#include <memory>
#include <utility>

namespace isobar {
namespace {

/// Rows to and from each rank, as the one that sends them says.
struct Lengths {
  std::vector<int64_t> own;
  std::vector<int64_t> others;
};

Message number(int peer, int64_t& value) {
  return {peer, reinterpret_cast<char*>(&value), sizeof(value), 0, 0};
}

Schedule announce(Lengths& lengths, int rank, int size) {
  Schedule schedule;
  for (int d = 1; d < size; ++d) {
    const int to = (rank + d) % size;
    const int from = (rank + size - d) % size;
    schedule.sends.push_back(number(to, lengths.own[to]));
    schedule.receives.push_back(number(from, lengths.others[from]));
  }
  return schedule;
}

/// Puts `first` before `messages`, which wait for so many receives more.
void prepend(const std::vector<Message>& first, std::vector<Message>& messages) {
  for (auto& message : messages) message.after_arrived += std::ssize(first);
  messages.insert(messages.begin(), first.begin(), first.end());
}

void compare(const Lengths& lengths, const std::vector<int64_t>& expected, int rank) {
  for (size_t r = 0; r < expected.size(); ++r) {
    if (lengths.others[r] == expected[r]) continue;
    throw CommError(detail::join("rank ", r, " sends ", lengths.others[r], " rows to rank ", rank,
                                 ", which expects ", expected[r]));
  }
}

}  // namespace

Schedule announced_exchange(const Operation& operation, int rank, int size,
                            const ScheduleTuning& tuning) {
  auto lengths = std::make_shared<Lengths>(Lengths{operation.input_rows, operation.output_rows});
  const auto announcement = announce(*lengths, rank, size);
  // Its one combination, the rank's own rows, waits for nothing.
  auto schedule = exchange_schedule(operation, rank, size, tuning);
  prepend(announcement.sends, schedule.sends);
  prepend(announcement.receives, schedule.receives);
  schedule.check.when_arrived = std::ssize(announcement.receives);
  schedule.check.run = [lengths, rank, expected = operation.output_rows] {
    compare(*lengths, expected, rank);
  };
  return schedule;
}

}  // namespace isobar
