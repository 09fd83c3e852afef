// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/collective.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace isobar::bench {

/// One rank's tensors for one collective, one-dimensional; of those that work in
/// place both are the same tensor, and of a barrier both are undefined.
struct Buffers {
  at::Tensor input;
  at::Tensor output;
};

/// float32, float64, bfloat16, float16, int32 or int64. Throws UsageError, with a
/// suggestion, for another name.
at::ScalarType parse_type(std::string_view name);

/// Inputs of which every collective's result is known without communication.
///
/// They are small positive integers, whose sums every type holds exactly: the
/// plain reference is compared for equality, whatever the order of a sum. They
/// depend on rank, index and round, so that a block in another's place, a part
/// not yet combined or the result of an earlier round shows as a deviation.
class ExactValues {
 public:
  ExactValues(Collective op, at::ScalarType type, int rank, int ranks);

  /// Buffers on `device` for `bytes`, in the sense of counts_of().
  Buffers make_buffers(int64_t bytes, const at::Device& device) const;

  /// Writes the inputs of `round`, and into separate outputs what no result is.
  void fill(const Buffers& buffers, int round) const;

  /// Zeros where the collective combines in place: repeated, it would grow the
  /// values out of their type. The memory stays written, as in use.
  void settle(const Buffers& buffers) const;

  /// Largest absolute deviation of the output from the plain reference of
  /// `round`; a value that is not finite counts as the largest double.
  double deviation(const Buffers& buffers, int round) const;

 private:
  /// A stretch of the output whose element i is the sum over `ranks` of what
  /// they have at `index` + i.
  struct Piece {
    int64_t at = 0;
    int64_t count = 0;
    int64_t index = 0;
    std::vector<int> ranks;
  };

  std::vector<Piece> pieces(int64_t output_count) const;
  at::Tensor values(int rank, int round, int64_t first, int64_t count) const;

  Collective op_;
  at::ScalarType type_;
  int rank_;
  int ranks_;
  int64_t modulus_;
};

}  // namespace isobar::bench
