// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace isobar {

struct WeightedMseOptions {
  /// A target that is NaN weighs nothing, neither in the loss nor in its gradient; all others
  /// weigh what they would without it.
  bool mask_missing = false;
};

/// The weighted mean square error of weather models, a scalar:
///
///     mean over leading dimensions and variables p of
///       sum over points n of area[n] * variable_weights[p] * (prediction - target)^2
///
/// `prediction` and `target` are [..., N, P] (batch, or batch and steps, in
/// front), `area` [N] sums to 1, `variable_weights` [P]: a variable's own weight times
/// that of its level. Weights are cast to the prediction's type and device. The
/// mean divides by P, not by the sum of the weights, and so by the number of steps
/// of a forecast. Of some of the points, `area` being theirs, it is their share: shares of
/// parts that make up the grid sum to the whole. Throws UsageError if shapes differ.
at::Tensor weighted_mse(const at::Tensor& prediction, const at::Tensor& target,
                        const at::Tensor& area, const at::Tensor& variable_weights,
                        const WeightedMseOptions& options = {});

}  // namespace isobar
