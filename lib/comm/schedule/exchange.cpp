// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/tensor_bytes.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {
namespace {

/// So many keep all links of a chain busy.
constexpr int64_t kSegments = 8;

/// No rank is further ahead of what it has received, in pieces for each: those who went ahead would
/// share links with those who are late.
constexpr int64_t kAhead = 3;

/// Where each rank's rows begin, in bytes, and where the last one's end.
std::vector<int64_t> offsets(const std::vector<int64_t>& rows, int64_t row) {
  std::vector<int64_t> all(rows.size() + 1, 0);
  std::partial_sum(rows.begin(), rows.end(), all.begin() + 1);
  for (auto& offset : all) offset *= row;
  return all;
}

/// Adds the `piece`-th message of `bytes` at `data`, if there is one; the last is shorter than a
/// segment.
void add_piece(std::vector<Message>& messages, int peer, char* data, int64_t bytes, int64_t piece,
               int64_t segment, int64_t after_arrived) {
  const auto left = bytes - piece * segment;
  if (left < 0) return;
  messages.push_back({peer, data + piece * segment, std::min(left, segment), after_arrived, 0});
}

int64_t longest(const std::vector<int64_t>& rows) {
  return *std::max_element(rows.begin(), rows.end());
}

}  // namespace

Schedule exchange_schedule(const Operation& operation, int rank, int size,
                           const ScheduleTuning& tuning) {
  const auto row = row_bytes(operation.input);
  const auto from = offsets(operation.input_rows, row);
  const auto to = offsets(operation.output_rows, row);
  auto* input = bytes_of(operation.input);
  auto* output = bytes_of(operation.output);
  Schedule schedule;
  const auto own = from[rank + 1] - from[rank];
  schedule.combinations.push_back({0, output + to[rank], {input + from[rank]}, own});
  // A piece for each in turn: one after the other, several ranks would come to send to one.
  const auto pieces = std::max(longest(operation.input_rows), longest(operation.output_rows)) *
                          row / tuning.segment_bytes +
                      1;
  std::vector<int64_t> arrived;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const auto after = piece < kAhead ? 0 : arrived[piece - kAhead];
    for (int d = 1; d < size; ++d) {
      const int to_rank = (rank + d) % size;
      const int from_rank = (rank + size - d) % size;
      add_piece(schedule.sends, to_rank, input + from[to_rank], from[to_rank + 1] - from[to_rank],
                piece, tuning.segment_bytes, after);
      add_piece(schedule.receives, from_rank, output + to[from_rank],
                to[from_rank + 1] - to[from_rank], piece, tuning.segment_bytes, 0);
    }
    arrived.push_back(std::ssize(schedule.receives));
  }
  return schedule;
}

Schedule chain_schedule(const Operation& operation, int rank, int size,
                        const ScheduleTuning& tuning) {
  const int distance = (rank - operation.peer + size) % size;
  auto* data = bytes_of(operation.output);
  const auto total = byte_count(operation.output);
  const auto segment =
      std::min(tuning.segment_bytes, std::max(total / kSegments, tuning.shortest_segment_bytes));
  Schedule schedule;
  for (int64_t offset = 0; offset < total; offset += segment) {
    const auto bytes = std::min(segment, total - offset);
    if (distance > 0) {
      schedule.receives.push_back({(rank + size - 1) % size, data + offset, bytes, 0, 0});
    }
    const auto arrived = static_cast<int64_t>(schedule.receives.size());
    if (distance + 1 < size) {
      schedule.sends.push_back({(rank + 1) % size, data + offset, bytes, arrived, 0});
    }
  }
  return schedule;
}

}  // namespace isobar
