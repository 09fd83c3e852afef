// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/loss.hpp>
#include <ATen/ATen.h>

namespace isobar {

at::Tensor weighted_mse(const at::Tensor& prediction, const at::Tensor& target,
                        const at::Tensor& area, const at::Tensor& variable_weights,
                        const WeightedMseOptions& options) {
  ISOBAR_CHECK(prediction.dim() >= 2 && prediction.sizes() == target.sizes(),
               "weighted_mse: prediction ", prediction.sizes(), " and target ", target.sizes(),
               " must both be [..., points, variables]");
  ISOBAR_CHECK(area.dim() == 1 && area.size(0) == prediction.size(-2),
               "weighted_mse: wanted an area for each of ", prediction.size(-2), " points, got ",
               area.sizes());
  ISOBAR_CHECK(variable_weights.dim() == 1 && variable_weights.size(0) == prediction.size(-1),
               "weighted_mse: wanted a weight for each of ", prediction.size(-1),
               " variables, got ", variable_weights.sizes());
  const at::Tensor weights = variable_weights.to(prediction.options());
  at::Tensor error = prediction - target;
  // Chosen before it is squared: zero times the NaN of a square's gradient would be NaN.
  if (options.mask_missing) error = error.masked_fill(target.isnan(), 0);
  const at::Tensor over_points = at::matmul(area.to(prediction.options()), error.square());
  return (over_points * weights).mean();
}

}  // namespace isobar
