// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace isobar {

/// How a bucket's values lie in messages of 8-bit blocks: in equal parts, one for each rank, of
/// equal blocks. A part holds its values, one byte each, then a float32 scale for each block.
/// What exceeds the bucket's values is zero.
struct BlockLayout {
  int64_t values = 0;  ///< of the bucket
  int64_t parts = 1;
  int64_t blocks = 0;  ///< in a part
  int64_t block = 0;   ///< values in each, a multiple of 4: scales stay aligned

  int64_t part_values() const { return blocks * block; }
  int64_t part_bytes() const { return blocks * (block + 4); }
  int64_t message_bytes() const { return parts * part_bytes(); }
};

/// With blocks of `block` values or (but for the multiple of 4) fewer.
BlockLayout block_layout(int64_t values, int64_t parts, int64_t block);

// Residuals [values] are float or double; messages are bytes.

/// message = values + residual, in 8 bits; residual = what that leaves out. A block that is not
/// finite gets a scale that is NaN, and its residual stays.
void quantise(const BlockLayout& layout, const at::Tensor& values, const at::Tensor& residual,
              const at::Tensor& message);

/// own [a part] = the sum of all parts of `received`, in order, in 8 bits. What that leaves out
/// is added to the residual of part `rank`. `sum` [part_values] is to work in.
void quantise_sum(const BlockLayout& layout, int64_t rank, const at::Tensor& received,
                  const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& own);

/// values = message / divisor.
void dequantise(const BlockLayout& layout, const at::Tensor& message, double divisor,
                const at::Tensor& values);

/// The same by tensor operations, for any device; on the CPU to the same bits.
namespace by_tensors {
void quantise(const BlockLayout& layout, const at::Tensor& values, const at::Tensor& residual,
              const at::Tensor& message);
void quantise_sum(const BlockLayout& layout, int64_t rank, const at::Tensor& received,
                  const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& own);
void dequantise(const BlockLayout& layout, const at::Tensor& message, double divisor,
                const at::Tensor& values);
}  // namespace by_tensors

}  // namespace isobar
