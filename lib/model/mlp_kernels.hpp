// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// What an Mlp does to rows between its matrix products, each in one pass. Rows are [R, C],
// contiguous, of the computing type; vectors [C] are of the wide one: float64 for float64, float32
// otherwise. Nothing here is differentiable. float32, float64 and bfloat16 on the CPU have loops;
// LibTorch's operations serve everything else. Results do not depend on the number of threads.

namespace isobar::detail {

/// float64 for float64, float32 for the others.
c10::ScalarType wide_type(c10::ScalarType compute);

/// What is left in the rows that went into a GELU: themselves, or its derivative there.
enum class GeluLeaves { rows, slope };

/// rows += bias; activated = gelu(rows).
void add_bias_gelu(at::Tensor& rows, const at::Tensor& bias, at::Tensor& activated,
                   GeluLeaves leaves);

/// rows += near[near_row - first_near] + far[far_row]; activated = gelu(rows). Indices are [R].
void gather_gelu(at::Tensor& rows, const at::Tensor& near, const at::Tensor& near_row,
                 int64_t first_near, const at::Tensor& far, const at::Tensor& far_row,
                 at::Tensor& activated, GeluLeaves leaves);

/// gelu(rows) and its derivative there.
void gelu_and_slope(const at::Tensor& rows, at::Tensor& activated, at::Tensor& slope);

/// gradient *= slope; sums [C], float64, += its columns' sums.
void scale_and_sum(const at::Tensor& slope, at::Tensor& gradient, at::Tensor& sums);

/// out = residual + LayerNorm(rows), epsilon 1e-5; an undefined residual counts as zero.
void layer_norm(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& shift,
                const at::Tensor& residual, at::Tensor& out);

/// Gradients of LayerNorm: at its input, out; of weight and shift, and the columns' sums of `out`,
/// added to the sums [C], of float64.
struct NormSums {
  at::Tensor weight, shift, input;
};
void layer_norm_backward(const at::Tensor& rows, const at::Tensor& weight,
                         const at::Tensor& gradient, at::Tensor& out, NormSums& sums);

/// rows += nodes[row - first].
void add_gathered(at::Tensor& rows, const at::Tensor& nodes, const at::Tensor& row, int64_t first);

/// sums[i] = the sum of rows offsets[i] - offsets[0] to offsets[i + 1] - offsets[0], in their
/// order.
void sum_segments(const at::Tensor& rows, const at::Tensor& offsets, at::Tensor& sums);

/// sums[nodes[i]] += the sum of the rows order[k] - first, for k from offsets[i] - offsets[0] up to
/// offsets[i + 1] - offsets[0]. No node comes twice. `sums` is of the wide type.
void add_segments(const at::Tensor& rows, const at::Tensor& order, int64_t first,
                  const at::Tensor& offsets, const at::Tensor& nodes, at::Tensor& sums);

}  // namespace isobar::detail
