// SPDX-License-Identifier: Apache-2.0
// What an edge's MLP does after its first product: adds the projections of both ends, and GELU; and
// a product with what follows it in one pass.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include "bench/kernels/kernels.hpp"
#include "model/mlp_kernels.hpp"

namespace isobar::bench {
namespace {

struct GeluAndSlope {
  std::vector<double> value, slope;
};

GeluAndSlope gelu_of(const std::vector<double>& x) {
  GeluAndSlope result;
  for (const double v : x) {
    const double below = (1 + std::erf(v / std::numbers::sqrt2)) / 2;
    const double density = std::exp(-v * v / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    result.value.push_back(v * below);
    result.slope.push_back(below + v * density);
  }
  return result;
}

/// Of GELU and its slope at a value.
constexpr double kGeluOperations = 12;

/// Rows end as GELU's slope, so calls that repeat go on from small numbers.
Kernel gather_gelu(c10::ScalarType type, Place place) {
  const int64_t count = rows_of(place), nodes = count / 4;
  const auto rows = values({count, kWidth}, type, 1);
  const auto near = values({nodes, kWidth}, type, 2), far = values({nodes, kWidth}, type, 3);
  const auto near_row = indices(count, nodes, 4), far_row = indices(count, nodes, 5);
  const auto activated = zeros({count, kWidth}, type);
  const auto before = plain(rows);
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] {
    at::Tensor from = rows, to = activated;
    isobar::gather_gelu(from, near, near_row, 0, far, far_row, to, isobar::GeluLeaves::slope);
  };
  const auto error = [=] {
    const auto a = plain(near), b = plain(far);
    const auto i = plain_indices(near_row), j = plain_indices(far_row);
    auto x = before;
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t c = 0; c < kWidth; ++c) {
        x[r * kWidth + c] += a[i[r] * kWidth + c] + b[j[r] * kWidth + c];
      }
    }
    const auto wanted = gelu_of(x);
    return std::max(deviation(activated, wanted.value), deviation(rows, wanted.slope));
  };
  return {.bytes = 3.5 * row_values * static_cast<double>(rows.element_size()) +
                   16.0 * static_cast<double>(count),
          .operations = (2 + kGeluOperations) * row_values,
          .call = call,
          .error = error,
          .tolerance = tolerance_of(type)};
}

/// rows = x · matrix + bias, and GELU.
Kernel linear_gelu(Place place) {
  const int64_t count = rows_of(place);
  const auto x = values({count, kWidth}, at::kFloat, 1);
  const auto matrix = values({kWidth, kWidth}, at::kFloat, 2);
  const auto packed = std::make_shared<isobar::Matrix>(matrix);
  const auto bias = values({kWidth}, at::kFloat, 3);
  const auto rows = zeros({count, kWidth}, at::kFloat),
             activated = zeros({count, kWidth}, at::kFloat);
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] {
    at::Tensor before = rows, after = activated;
    isobar::linear_gelu({{x, *packed}}, bias, before, after, isobar::GeluLeaves::slope);
  };
  const auto error = [=] {
    const auto b = plain(bias);
    auto product = plain_product(x, matrix);
    for (size_t k = 0; k < product.size(); ++k) product[k] += b[k % kWidth];
    const auto wanted = gelu_of(product);
    return std::max(deviation(activated, wanted.value), deviation(rows, wanted.slope));
  };
  return {.bytes = 12 * row_values,
          .operations = (2 * kWidth + 1 + kGeluOperations) * row_values,
          .call = call,
          .error = error,
          .tolerance = 1e-5};
}

}  // namespace

void add_gather_gelu(Kernels& kernels) {
  kernels.add_typed("gather_gelu", gather_gelu);
  for (const Place place : {Place::cache, Place::memory}) {
    kernels.add("linear_gelu/float32", place, [=] { return linear_gelu(place); });
  }
}

}  // namespace isobar::bench
