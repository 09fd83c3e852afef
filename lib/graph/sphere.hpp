// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <numbers>
#include <vector>

namespace isobar {

/// A point of the unit sphere: x towards (0 N, 0 E), z towards the north pole.
using UnitVector = std::array<double, 3>;

inline constexpr double kRadiansPerDegree = std::numbers::pi / 180.0;

/// The point at a latitude and longitude in radians.
UnitVector unit_vector(double latitude, double longitude);

/// The points at latitudes and longitudes [N] in degrees.
std::vector<UnitVector> unit_vectors(const at::Tensor& latitude, const at::Tensor& longitude);

/// The chord that spans `angle` radians of a great circle.
double chord_of_angle(double angle);

/// A contiguous float64 tensor [N] on the CPU with these values.
at::Tensor to_tensor(const std::vector<double>& values);

/// The same of int64.
at::Tensor to_tensor(const std::vector<int64_t>& values);

}  // namespace isobar
