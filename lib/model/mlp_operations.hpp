// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/mlp_kernels.hpp"

// The functions of mlp_kernels.hpp and products.hpp by LibTorch's operations, as few as there are:
// each is a kernel of a GPU, which has to be launched. Nothing here waits for a device. They are
// for tensors of any device: what a GPU computes can be computed, and tested, on the CPU.

namespace isobar::operations {

void linear(const Operand& operand, const at::Tensor& start, at::Tensor& out);
/// rows = the operands' products, + bias if there is one.
void multiply(const std::vector<Operand>& operands, const at::Tensor& bias, at::Tensor& rows);
void linear_gelu(const std::vector<Operand>& operands, const at::Tensor& bias, at::Tensor& rows,
                 at::Tensor& activated);
void gather_gelu(at::Tensor& rows, const Gathered& gathered, at::Tensor& activated);
void layer_norm(const at::Tensor& rows, const NormWeights& norm, const at::Tensor& residual,
                at::Tensor& out);
void layer_norm_backward(const at::Tensor& rows, const at::Tensor& weight,
                         const at::Tensor& gradient, at::Tensor& out, NormSums& sums);
void linear_backward(const Operand& above, const at::Tensor& rows, at::Tensor& below,
                     at::Tensor& sums);
void add_gathered(const at::Tensor& rows, const at::Tensor& nodes, const at::Tensor& row,
                  int64_t first, at::Tensor& out);
void sum_segments(const at::Tensor& rows, const at::Tensor& offsets, at::Tensor& sums);
void add_segments(const at::Tensor& rows, const at::Tensor& order, int64_t first,
                  const at::Tensor& offsets, const at::Tensor& nodes, at::Tensor& sums);
/// Of all its rows at once.
void add_product(const OuterProducts& part);

}  // namespace isobar::operations
