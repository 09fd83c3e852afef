// SPDX-License-Identifier: Apache-2.0
// A pair's weight is odd, so it has an inverse modulo 2^64: the difference of one pair alone is the
// sum times the inverse of its weight. With any other pair's weight that gives some number of 64
// bits, which is hardly ever one of few rows: so one sum names the pair. The issuing threads add,
// rank 0's control thread searches, once in a world's life.
#include "comm/control/row_balance.hpp"

#include <isobar/core/hash.hpp>

namespace isobar::control {
namespace {

/// Differences beyond this are not looked for: all pairs of kMostRanks, each with so many, mistake
/// another pair for the right one in 1 of 30,000 mismatches.
constexpr int64_t kMostRows = 1 << 24;

/// Their pairs take 0.1 s on an EPYC core.
constexpr int kMostRanks = 4096;

/// What the weights of a call are made from.
uint64_t state_of(int64_t sequence) {
  return splitmix64((static_cast<uint64_t>(sequence) + 1) * kSplitmix64Step);
}

uint64_t weight(uint64_t state, int from, int to) {
  const auto pair = static_cast<uint64_t>(from) << 32 | static_cast<uint32_t>(to);
  return splitmix64(state + (pair + 1) * kSplitmix64Step) | 1;
}

/// By Newton's iteration, which doubles the bits that are right, from 5.
uint64_t inverse(uint64_t odd) {
  auto inverse = odd * 3 ^ 2;
  for (int bits = 5; bits < 64; bits *= 2) inverse *= 2 - odd * inverse;
  return inverse;
}

}  // namespace

uint64_t row_balance(int64_t sequence, int rank, const std::vector<int64_t>& sent,
                     const std::vector<int64_t>& expected) noexcept {
  const auto state = state_of(sequence);
  uint64_t balance = 0;
  for (size_t r = 0; r < sent.size() && r < expected.size(); ++r) {
    const auto other = static_cast<int>(r);
    balance += weight(state, rank, other) * static_cast<uint64_t>(sent[r]);
    balance -= weight(state, other, rank) * static_cast<uint64_t>(expected[r]);
  }
  return balance;
}

std::optional<RowDifference> find_row_difference(uint64_t sum, int64_t sequence,
                                                 int size) noexcept {
  if (sum == 0 || size > kMostRanks) return std::nullopt;
  const auto state = state_of(sequence);
  for (int from = 0; from < size; ++from) {
    for (int to = 0; to < size; ++to) {
      const auto rows = static_cast<int64_t>(sum * inverse(weight(state, from, to)));
      if (-kMostRows < rows && rows < kMostRows) return RowDifference{from, to, rows};
    }
  }
  return std::nullopt;
}

}  // namespace isobar::control
