// SPDX-License-Identifier: Apache-2.0
#include "model/mlp_operations.hpp"

#include <ATen/ATen.h>

#include <tuple>

namespace isobar::detail::operations {
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
  const auto [input, at_weight, at_shift] = at::native_layer_norm_backward(
      gradient, rows, {rows.size(1)}, mean, scale, weight, weight, {true, true, true});
  out.copy_(input);
  sums.weight.add_(at_weight);
  sums.shift.add_(at_shift);
  add_column_sums(out, sums.input);
}

void linear_backward(const Operand& above, const at::Tensor& rows, at::Tensor& below,
                     at::Tensor& sums) {
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

}  // namespace isobar::detail::operations
