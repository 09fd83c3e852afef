// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/moments.hpp>
#include <ATen/core/Tensor.h>

#include <vector>

namespace isobar {

/// The moments of each column of `field` [points, variables], float32 or float64; missing values
/// (NaN) are left out.
std::vector<Moments> moments_of(const at::Tensor& field);

/// Those of `field` - `earlier`, taken in double precision.
std::vector<Moments> moments_of_change(const at::Tensor& field, const at::Tensor& earlier);

/// Of all values that the moments are of; 0 without any.
double root_mean_square(const Moments& moments);

}  // namespace isobar
