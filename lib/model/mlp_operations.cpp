// SPDX-License-Identifier: Apache-2.0
// Called by mlp_kernels.cpp, segment_kernels.cpp and products.cpp for rows that have no loops
// (other devices, float16) and for products in 16 bits. What the loops compute by formulas
// (mlp_loops.hpp), LibTorch's kernels and their adjoints do here, such as gelu_backward and
// native_layer_norm_backward.
#include "model/mlp_operations.hpp"

#include <ATen/ATen.h>

#include <tuple>

namespace isobar::operations {
namespace {

constexpr double kEpsilon = 1e-5;

/// sums += the columns' sums of `rows`, which are read as they are: no wide copy of them is made.
void add_column_sums(const at::Tensor& rows, at::Tensor& sums) {
  sums.add_(rows.sum({0}, false, wide_type(rows.scalar_type())));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> normalise(const at::Tensor& rows,
                                                         const NormWeights& norm) {
  return at::native_layer_norm(rows, {rows.size(1)}, norm.weight, norm.shift, kEpsilon);
}

/// [segments, width], of rows in the segments' order.
at::Tensor segments_of(const at::Tensor& sorted, const at::Tensor& offsets) {
  const at::Tensor wide = sorted.to(wide_type(sorted.scalar_type())).contiguous();
  return at::segment_reduce(wide, "sum", {}, {}, (offsets - offsets[0]).contiguous(), 0,
                            /*unsafe=*/true, at::Scalar(0));
}

}  // namespace

void linear(const Operand& operand, const at::Tensor& start, at::Tensor& out) {
  const at::Tensor& matrix = operand.matrix.values();
  if (!start.defined()) {
    at::mm_out(out, operand.x, matrix);
  } else if (start.is_same(out)) {
    out.addmm_(operand.x, matrix);
  } else {
    at::addmm_out(out, start.to(out.scalar_type()), operand.x, matrix);
  }
}

void multiply(const std::vector<Operand>& operands, const at::Tensor& bias, at::Tensor& rows) {
  for (const Operand& operand : operands) {
    operations::linear(operand, &operand == &operands.front() ? bias : rows, rows);
  }
}

void linear_gelu(const std::vector<Operand>& operands, const at::Tensor& bias, at::Tensor& rows,
                 at::Tensor& activated) {
  multiply(operands, bias, rows);
  at::gelu_out(activated, rows);
}

void gather_gelu(at::Tensor& rows, const Gathered& gathered, at::Tensor& activated) {
  rows.add_(gathered.near.index_select(0, gathered.near_row - gathered.first_near));
  rows.add_(gathered.far.index_select(0, gathered.far_row));
  at::gelu_out(activated, rows);
}

void layer_norm(const at::Tensor& rows, const NormWeights& norm, const at::Tensor& residual,
                at::Tensor& out) {
  const at::Tensor normal = std::get<0>(normalise(rows, norm));
  if (residual.defined()) {
    at::add_out(out, normal, residual);
  } else {
    out.copy_(normal);
  }
}

void layer_norm_backward(const at::Tensor& rows, const at::Tensor& weight,
                         const at::Tensor& gradient, at::Tensor& out, NormSums& sums) {
  // The moments are made again, by one kernel, so that a tape is the same on every device.
  const auto [normal, mean, scale] = normalise(rows, {weight, weight});
  const auto [input, grad_weight, grad_shift] = at::native_layer_norm_backward(
      gradient, rows, {rows.size(1)}, mean, scale, weight, weight, {true, true, true});
  out.copy_(input);
  sums.weight.add_(grad_weight);
  sums.shift.add_(grad_shift);
  add_column_sums(out, sums.input);
}

void linear_backward(const Operand& above, const at::Tensor& rows, at::Tensor& below,
                     at::Tensor& sums) {
  // `rows` are a GELU's inputs whatever GeluLeaves says: gelu_backward makes the slope of them.
  operations::linear(above, {}, below);
  at::gelu_backward_out(below, below, rows);
  add_column_sums(below, sums);
}

void add_gathered(const at::Tensor& rows, const at::Tensor& nodes, const at::Tensor& row,
                  int64_t first, at::Tensor& out) {
  if (rows.defined()) {
    at::add_out(out, rows, nodes.index_select(0, row - first));
  } else {
    at::index_select_out(out, nodes, 0, row - first);
  }
}

void sum_segments(const at::Tensor& rows, const at::Tensor& offsets, at::Tensor& sums) {
  sums.copy_(segments_of(rows, offsets));
}

void add_segments(const at::Tensor& rows, const at::Tensor& order, int64_t first,
                  const at::Tensor& offsets, const at::Tensor& nodes, at::Tensor& sums) {
  const at::Tensor sorted = rows.index_select(0, order.narrow(0, 0, rows.size(0)) - first);
  sums.index_add_(0, nodes, segments_of(sorted, offsets).to(sums.scalar_type()));
}

void add_product(const OuterProducts& part) { part.sum.add_(part.a.t().mm(part.b)); }

}  // namespace isobar::operations
