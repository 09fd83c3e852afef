// SPDX-License-Identifier: Apache-2.0
#include "graph/sphere.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "graph/chunks.hpp"

namespace isobar {
namespace {

template <typename T>
at::Tensor copied(const std::vector<T>& values, at::ScalarType type) {
  at::Tensor result = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(type));
  std::copy(values.begin(), values.end(), result.mutable_data_ptr<T>());
  return result;
}

}  // namespace

UnitVector unit_vector(double latitude, double longitude) {
  return {std::cos(latitude) * std::cos(longitude), std::cos(latitude) * std::sin(longitude),
          std::sin(latitude)};
}

std::vector<UnitVector> unit_vectors(const at::Tensor& latitude, const at::Tensor& longitude) {
  const at::Tensor lat = latitude.to(at::kDouble).contiguous();
  const at::Tensor lon = longitude.to(at::kDouble).contiguous();
  const double* lat_data = lat.const_data_ptr<double>();
  const double* lon_data = lon.const_data_ptr<double>();
  std::vector<UnitVector> points(lat.size(0));
  for_each_chunk(lat.size(0), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      points[i] = unit_vector(lat_data[i] * kRadiansPerDegree, lon_data[i] * kRadiansPerDegree);
    }
  });
  return points;
}

double chord_of_angle(double angle) { return 2.0 * std::sin(0.5 * angle); }

at::Tensor to_tensor(const std::vector<double>& values) { return copied(values, at::kDouble); }

at::Tensor to_tensor(const std::vector<int64_t>& values) { return copied(values, at::kLong); }

}  // namespace isobar
