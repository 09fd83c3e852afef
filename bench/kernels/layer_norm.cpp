// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

#include "bench/kernels/kernels.hpp"
#include "model/mlp_kernels.hpp"

namespace isobar::bench {
namespace {

/// A row less its mean, over its deviation.
struct Normalised {
  std::vector<double> row;
  double scale = 0;
};

Normalised normalised(const double* row) {
  double mean = 0, square = 0;
  for (int64_t c = 0; c < kWidth; ++c) mean += row[c] / kWidth;
  for (int64_t c = 0; c < kWidth; ++c) square += (row[c] - mean) * (row[c] - mean) / kWidth;
  Normalised result{std::vector<double>(kWidth), 1 / std::sqrt(square + 1e-5)};
  for (int64_t c = 0; c < kWidth; ++c) result.row[c] = (row[c] - mean) * result.scale;
  return result;
}

Kernel forward(c10::ScalarType type, Place place) {
  const int64_t count = rows_of(place);
  const auto rows = values({count, kWidth}, type, 1), residual = values({count, kWidth}, type, 2);
  const auto weight = values({kWidth}, at::kFloat, 3), shift = values({kWidth}, at::kFloat, 4);
  const auto out = zeros({count, kWidth}, type);
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] {
    at::Tensor to = out;
    isobar::layer_norm(rows, weight, shift, residual, to);
  };
  const auto error = [=] {
    const auto x = plain(rows), w = plain(weight), b = plain(shift);
    auto wanted = plain(residual);
    for (int64_t r = 0; r < count; ++r) {
      const auto n = normalised(x.data() + r * kWidth);
      for (int64_t c = 0; c < kWidth; ++c) wanted[r * kWidth + c] += n.row[c] * w[c] + b[c];
    }
    return deviation(out, wanted);
  };
  return {.bytes = 3 * row_values * static_cast<double>(rows.element_size()),
          .operations = 9 * row_values,
          .call = call,
          .error = error,
          .tolerance = tolerance_of(type)};
}

/// Gradients by the chain rule: with g = weight · gradient and the normalised row n, of a row
/// scale · (g - mean(g) - n · mean(g · n)).
Kernel backward(c10::ScalarType type, Place place) {
  const int64_t count = rows_of(place);
  const auto rows = values({count, kWidth}, type, 1), gradient = values({count, kWidth}, type, 2);
  const auto weight = values({kWidth}, at::kFloat, 3);
  const auto out = zeros({count, kWidth}, type);
  const auto sums = [] { return zeros({kWidth}, at::kDouble); };
  const isobar::NormSums total{sums(), sums(), sums()};
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] {
    at::Tensor to = out;
    auto added = total;
    isobar::layer_norm_backward(rows, weight, gradient, to, added);
  };
  const auto error = [=] {
    const auto x = plain(rows), w = plain(weight), g = plain(gradient);
    std::vector<double> wanted(count * kWidth), of_weight(kWidth), of_shift(kWidth),
        of_input(kWidth);
    for (int64_t r = 0; r < count; ++r) {
      const auto n = normalised(x.data() + r * kWidth);
      const double* at_row = g.data() + r * kWidth;
      double mean = 0, along = 0;
      for (int64_t c = 0; c < kWidth; ++c) {
        mean += at_row[c] * w[c] / kWidth;
        along += at_row[c] * w[c] * n.row[c] / kWidth;
        of_weight[c] += at_row[c] * n.row[c];
        of_shift[c] += at_row[c];
      }
      for (int64_t c = 0; c < kWidth; ++c) {
        wanted[r * kWidth + c] = n.scale * (at_row[c] * w[c] - mean - n.row[c] * along);
      }
    }
    // The sums are those of the rows as they are written, rounded in 16 bits.
    const auto written = plain(out);
    for (size_t k = 0; k < written.size(); ++k) of_input[k % kWidth] += written[k];
    return std::max({deviation(out, wanted), deviation(total.weight, of_weight),
                     deviation(total.shift, of_shift), deviation(total.input, of_input)});
  };
  return {.bytes = 3 * row_values * static_cast<double>(rows.element_size()),
          .operations = 18 * row_values,
          .call = call,
          .error = error,
          .tolerance = std::max(1e-4, tolerance_of(type))};
}

}  // namespace

void add_layer_norm(Kernels& kernels) {
  kernels.add_typed("layer_norm", forward);
  kernels.add_typed("layer_norm_backward", backward);
}

}  // namespace isobar::bench
