// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace isobar {

/// What AcpSgd and PowerSgd have in common.
///
/// A gradient is a matrix of n rows, the entries of its outermost dimension in memory, and
/// m columns, all the rest. Of rank-r factors it takes r (n + m) values; it is compressed
/// where that, times min_compression_rate, is less than n m. Vectors never are, nor tables
/// of so few columns that m <= r · min_compression_rate, however long (an n × 8 table at
/// rank 4 would save less than half): these travel as they are, in the same messages.
struct LowRankOptions {
  /// Width of the factors; at most the smaller side of a matrix is used.
  int64_t matrix_approximation_rank = 4;
  /// Steps that are not compressed, from the first on: gradients change much and are large
  /// then. PyTorch advises a tenth of all steps, and no fewer than the learning rate warms up.
  int64_t start_step = 1000;
  double min_compression_rate = 2;
  /// Compressed steps after which the factors start anew at random, so that a direction
  /// that they lost comes back; 0: never.
  int64_t refresh_every = 0;
  /// Compressed steps after which ranks compare a hash of their orthonormal factors, which
  /// each computes by itself; 0: never. A difference is an Error on every rank.
  int64_t compare_every = 100;
  /// Of the first factors, with the parameter's name.
  uint64_t seed = 0;
};

/// Whether an n × m gradient is compressed, by the rule above.
bool is_compressed(int64_t rows, int64_t columns, const LowRankOptions& options);

}  // namespace isobar
