// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace isobar {

/// The weighted mean square error of weather models, a scalar:
///
///     mean over leading dimensions and variables p of
///       sum over points n of area[n] * variable_weights[p] * (prediction - target)^2
///
/// `prediction` and `target` are [..., N, P] (batch, or batch and steps, in
/// front), `area` [N] sums to 1, `variable_weights` [P]. Weights are cast to the
/// prediction's type and device. The mean divides by P, not by the sum of the
/// weights. Throws UsageError if shapes differ.
at::Tensor weighted_mse(const at::Tensor& prediction, const at::Tensor& target,
                        const at::Tensor& area, const at::Tensor& variable_weights);

}  // namespace isobar
