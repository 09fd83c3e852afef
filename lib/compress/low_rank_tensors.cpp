// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "compress/low_rank_kernels.hpp"

namespace isobar::by_tensors {
namespace {

// To ask a device whether all is finite would be to wait for it.
at::Tensor add_finite_gradient(const LowRankMatrix& m) {
  by_tensors::settle(m);
  const auto gradient = m.gradient.to(m.residual.scalar_type());
  const auto zeros = gradient.mul(0);  // NaN where it is not finite
  m.residual.add_(at::where(zeros.isnan(), zeros.new_zeros({}), gradient));
  return zeros.sum();
}

}  // namespace

at::Tensor project_rows(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right,
                        Keep keep) {
  auto number = add_finite_gradient(m);
  left.copy_(at::mm(m.residual, right.t()));
  if (keep == Keep::projection) m.residual.addmm_(left, right, 1, -1);
  return number;
}

at::Tensor project_columns(const LowRankMatrix& m, const at::Tensor& left,
                           const at::Tensor& right) {
  auto number = add_finite_gradient(m);
  right.copy_(at::mm(left.t(), m.residual));
  return number;
}

at::Tensor project_residual(const LowRankMatrix& m, const at::Tensor& left,
                            const at::Tensor& right) {
  right.copy_(at::mm(left.t(), m.residual));
  return {};
}

void expand(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right) {
  m.gradient.copy_(at::mm(left, right));
}

void settle(const LowRankMatrix& m) {
  if (m.pending_left.defined()) m.residual.addmm_(m.pending_left, m.pending_right, 1, -1);
}

}  // namespace isobar::by_tensors
