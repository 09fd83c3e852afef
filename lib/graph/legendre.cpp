// SPDX-License-Identifier: Apache-2.0
#include "graph/legendre.hpp"

#include <ATen/ATen.h>

#include <cmath>

namespace isobar {

LegendreColumns::LegendreColumns(const at::Tensor& sine, int64_t truncation)
    : sine_(sine),
      cosine_((1 - sine * sine).clamp_min(0).sqrt()),
      sectoral_(at::ones_like(sine)),
      truncation_(truncation) {}

/// The recursion over the degree, stable in this direction: Holmes and Featherstone (2002),
/// equations 11 to 13, without their factor sqrt(2) of orders above 0, for here a pair of orders
/// m and -m counts twice.
at::Tensor LegendreColumns::next() {
  const int64_t m = order_++;
  const auto order = static_cast<double>(m);
  if (m > 0) sectoral_ = sectoral_ * cosine_ * std::sqrt((2 * order + 1) / (2 * order));
  auto result = at::empty({truncation_ + 1 - m, sine_.size(0)}, at::kDouble);
  result[0].copy_(sectoral_);
  double before = 0;
  for (int64_t l = m + 1; l <= truncation_; ++l) {
    const auto degree = static_cast<double>(l);
    const double scale = std::sqrt((4 * degree * degree - 1) / (degree * degree - order * order));
    auto row = result[l - m];
    at::mul_out(row, result[l - m - 1], sine_);
    if (l > m + 1) row.sub_(result[l - m - 2], 1 / before);
    row.mul_(scale);
    before = scale;
  }
  return result;
}

}  // namespace isobar
