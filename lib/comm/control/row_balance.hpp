// SPDX-License-Identifier: Apache-2.0
// Whether the row counts of an all_to_all agree, for a transport that does not compare them: of 8
// bytes from each rank, whatever their number.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace isobar::control {

/// What rank `rank` sends to each rank in call `sequence` of its communicator, less what it expects
/// of each, every count times an odd number of the pair's own, modulo 2^64. Over all ranks it adds
/// up to 0 where all pairs agree; never where one alone does not, and by a chance of about 2^-64
/// where several do not. Some nanoseconds for each rank.
uint64_t row_balance(int64_t sequence, int rank, const std::vector<int64_t>& sent,
                     const std::vector<int64_t>& expected) noexcept;

/// Rank `from` sends `rows` rows more to rank `to` than that expects; fewer where negative.
struct RowDifference {
  int from = 0;
  int to = 0;
  int64_t rows = 0;
};

/// The one pair that a sum over all `size` ranks comes of; nothing where several differ, by
/// millions of rows, or in a world so large that all pairs take long to try.
std::optional<RowDifference> find_row_difference(uint64_t sum, int64_t sequence, int size) noexcept;

}  // namespace isobar::control
