// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/clip.hpp>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace isobar {

double gradient_norm(const std::vector<NamedParameter>& parameters, const ProcessGrid& grid) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> shared, owned;
  for (const auto& parameter : parameters) {
    if (!parameter.tensor.grad().defined()) continue;
    auto& norms = parameter.reduction == Reduction::sharded ? owned : shared;
    norms.push_back(parameter.tensor.grad().norm(2, at::kDouble));
  }
  // One transfer from the device for all parameters, not one each.
  const auto sum_of_squares = [](const std::vector<at::Tensor>& norms) {
    return norms.empty() ? 0.0 : at::stack(norms).square().sum().item<double>();
  };
  auto total = at::full({1}, sum_of_squares(owned), at::kDouble);
  grid.model().allreduce(total).wait();
  return std::sqrt(sum_of_squares(shared) + total.item<double>());
}

void clip_by_norm(const std::vector<NamedParameter>& parameters, double norm, double max_norm) {
  if (!(norm > max_norm)) return;
  c10::NoGradGuard no_grad;
  for (const auto& parameter : parameters) {
    if (parameter.tensor.grad().defined()) parameter.tensor.grad().mul_(max_norm / (norm + 1e-6));
  }
}

void clip_by_value(const std::vector<NamedParameter>& parameters, double limit) {
  c10::NoGradGuard no_grad;
  for (const auto& parameter : parameters) {
    if (parameter.tensor.grad().defined()) parameter.tensor.grad().clamp_(-limit, limit);
  }
}

}  // namespace isobar
