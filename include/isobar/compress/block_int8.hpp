// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/compressor.hpp>

#include <cstdint>
#include <memory>

namespace isobar {

struct BlockInt8Options {
  /// Values that share a scale, at most: more save bytes, fewer follow the gradient's size more
  /// closely. Blocks run through a bucket, over the borders between parameters.
  int64_t block = 256;
  /// Steps that are not compressed, from the first on.
  int64_t start_step = 0;
};

/// Sums gradients in 8 bits, with error feedback. With g the gradient of rank i, E its residual
/// and Q a block's values as int8 times one float32 scale, max |x| / 127:
///
///     rank i to the owners:    q_i = Q(g + E),    E = g + E - q_i
///     each owner, of 1/N:      q = Q(Σ q_i),      E = E + Σ q_i - q
///     owners to all ranks:     q / divisor in the gradient's place
///
/// An all_to_all and an all_gather a bucket. In each of the two a rank sends (N - 1) / N times
/// 1 + 4 / block bytes a value: in all, half of what an allreduce of 16-bit floats takes. Owners
/// sum in the order of ranks, and all ranks decode the same bytes: the result has the same bits
/// everywhere.
///
/// A step's result differs from the mean of g + E by no more than 1/127 of the mean, over the
/// ranks, of the block's largest |g + E|. What it leaves out is in the residuals: the owner's
/// error joins the residual of its rank (1-bit Adam, Tang et al. 2021, keeps it apart), so that
/// none is lost when buckets change. Results plus the mean residual thus add up to the true
/// means, but for rounding in the residual's type, float32 or float64, and to 16-bit gradients.
/// Not linear in the gradients: average_residuals() keeps what is owed, not the course of
/// training. A state resumes to the bit where buckets are the same.
///
/// A gradient that is not finite, or too large for float32, makes its block NaN on every rank;
/// there, its rank's residual stays as it was. Takes another copy of the gradients in memory, in
/// float32 or float64, and two bytes a value and, with N ranks, 5/N (9/N for float64) for messages
/// and sums. Throws UsageError for a block that is not positive or a negative step.
std::shared_ptr<Compressor> make_block_int8(const BlockInt8Options& options = {});

}  // namespace isobar
