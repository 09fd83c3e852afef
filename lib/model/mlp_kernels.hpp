// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/products.hpp"

// What an Mlp does to rows: products, and what follows each in the same pass over a block of rows,
// while it is in the nearest cache. Rows are [R, C], contiguous, of the computing type; vectors [C]
// are of vector_type. Nothing here is differentiable. float32, float64 and bfloat16 on the CPU have
// loops, for bfloat16 beside LibTorch's products; LibTorch's operations (mlp_operations.hpp) serve
// everything else. Results do not depend on the number of threads.

namespace isobar {

/// Whether they are computed by loops.
bool has_loops(const at::Tensor& rows);

/// float64 for float64, float32 for the others.
c10::ScalarType wide_type(c10::ScalarType compute);
/// Of biases and norms beside such rows: the wide type for loops, the rows' own for operations.
c10::ScalarType vector_type(const at::Tensor& rows);

/// Rows and what they are multiplied with.
struct Operand {
  at::Tensor x;  ///< [R, depth]
  const Matrix& matrix;
};

/// What a GELU leaves in the rows that went into it: themselves, or what a backward pass alone
/// needs, its derivative there. By operations it is the rows too, whose derivative is part of
/// LibTorch's.
enum class GeluLeaves { rows, slope };

/// out = start + x · matrix; `start` is [C] or [R, C], perhaps `out` itself, or undefined for zero.
void linear(const Operand& operand, const at::Tensor& start, at::Tensor& out);

/// rows = the operands' products + bias; activated, which may be an operand's x, = gelu(rows).
void linear_gelu(const std::vector<Operand>& operands, const at::Tensor& bias, at::Tensor& rows,
                 at::Tensor& activated, GeluLeaves leaves);

/// rows += near[near_row - first_near] + far[far_row]; activated = gelu(rows). Indices are [R].
void gather_gelu(at::Tensor& rows, const at::Tensor& near, const at::Tensor& near_row,
                 int64_t first_near, const at::Tensor& far, const at::Tensor& far_row,
                 at::Tensor& activated, GeluLeaves leaves);

/// What gather_gelu adds to the rows of edges.
struct Gathered {
  const at::Tensor& near;
  at::Tensor near_row;
  int64_t first_near;
  at::Tensor far, far_row;
};
/// The same of rows = x · matrix.
void linear_gather_gelu(const Operand& operand, const Gathered& gathered, at::Tensor& rows,
                        at::Tensor& activated, GeluLeaves leaves);

/// out = residual + LayerNorm(rows), epsilon 1e-5; an undefined residual counts as zero.
void layer_norm(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& shift,
                const at::Tensor& residual, at::Tensor& out);

struct NormWeights {
  at::Tensor weight, shift;
};
/// The same of rows = x · matrix + bias.
void linear_norm(const Operand& operand, const at::Tensor& bias, const NormWeights& norm,
                 const at::Tensor& residual, at::Tensor& rows, at::Tensor& out);

/// Gradients of LayerNorm: at its input, out; of weight and shift, and the columns' sums of `out`,
/// added to the sums [C], of float64. What is added is, by loops, the sum of each block of rows in
/// the wide type; by operations one sum of all rows, of `out` in the wide type, of weight and shift
/// as LibTorch's kernel gives it, rounded to the type of the rows.
struct NormSums {
  at::Tensor weight, shift, input;
};
void layer_norm_backward(const at::Tensor& rows, const at::Tensor& weight,
                         const at::Tensor& gradient, at::Tensor& out, NormSums& sums);

/// The gradient at a GELU's input, below = (above · matrix) * slope, from that at the next product;
/// sums [C], float64, += its columns' sums, of a block of rows (by operations of all) in the wide
/// type. `slope` is what GeluLeaves::slope left.
void linear_backward(const Operand& above, const at::Tensor& slope, at::Tensor& below,
                     at::Tensor& sums);
/// The same from what GeluLeaves::rows left; activated = gelu(rows).
void linear_backward_gelu(const Operand& above, const at::Tensor& rows, at::Tensor& activated,
                          at::Tensor& below, at::Tensor& sums);

/// out = rows + nodes[row - first]; undefined rows count as zero.
void add_gathered(const at::Tensor& rows, const at::Tensor& nodes, const at::Tensor& row,
                  int64_t first, at::Tensor& out);

/// sums[i] = the sum of rows offsets[i] - offsets[0] to offsets[i + 1] - offsets[0], in their
/// order.
void sum_segments(const at::Tensor& rows, const at::Tensor& offsets, at::Tensor& sums);

/// sums[nodes[i]] += the sum of the rows order[k] - first, for k from offsets[i] - offsets[0] up to
/// offsets[i + 1] - offsets[0]. No node comes twice. `sums` is of the wide type.
void add_segments(const at::Tensor& rows, const at::Tensor& order, int64_t first,
                  const at::Tensor& offsets, const at::Tensor& nodes, at::Tensor& sums);

}  // namespace isobar
