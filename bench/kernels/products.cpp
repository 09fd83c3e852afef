// SPDX-License-Identifier: Apache-2.0
// Products of latent states with a weight, and the sums of outer products that are its gradient.
#include <ATen/core/Tensor.h>

#include <memory>

#include "bench/kernels/kernels.hpp"
#include "model/mlp_kernels.hpp"

namespace isobar::bench {
namespace {

Kernel linear(Place place) {
  const int64_t count = rows_of(place);
  const auto x = values({count, kWidth}, at::kFloat, 1);
  const auto matrix = values({kWidth, kWidth}, at::kFloat, 2);
  const auto packed = std::make_shared<isobar::Matrix>(matrix);
  const auto out = zeros({count, kWidth}, at::kFloat);
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] {
    at::Tensor to = out;
    isobar::linear({x, *packed}, {}, to);
  };
  return {.bytes = 8 * row_values,
          .operations = 2 * kWidth * row_values,
          .call = call,
          .error = [=] { return deviation(out, plain_product(x, matrix)); },
          .tolerance = 1e-5};
}

Kernel add_products(Place place) {
  const int64_t count = rows_of(place);
  const auto a = values({count, kWidth}, at::kFloat, 1), b = values({count, kWidth}, at::kFloat, 2);
  const auto sum = zeros({kWidth, kWidth}, at::kDouble);
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] { isobar::add_products({{sum, a, b}}); };
  return {.bytes = 8 * row_values,
          .operations = 2 * kWidth * row_values,
          .call = call,
          .error = [=] { return deviation(sum, plain_product(a.t(), b)); },
          .tolerance = 1e-4};
}

}  // namespace

void add_products(Kernels& kernels) {
  for (const Place place : {Place::cache, Place::memory}) {
    kernels.add("linear/float32", place, [=] { return linear(place); });
    kernels.add("add_products/float32", place, [=] { return add_products(place); });
  }
}

}  // namespace isobar::bench
