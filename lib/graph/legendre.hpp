// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace isobar {

// Beyond this degree sectoral functions underflow near the poles where their successors, of the
// same order, do not (S. A. Holmes and W. E. Featherstone, J. Geodesy 76, 279-299, 2002).
inline constexpr int64_t kLargestDegree = 1899;

/// Associated Legendre functions of one order after another, at given latitudes.
class LegendreColumns {
 public:
  /// `sine` is [R] float64: of the latitudes. Degrees go up to `truncation`.
  LegendreColumns(const at::Tensor& sine, int64_t truncation);

  /// [truncation + 1 - m, R] float64: the functions of degrees m to truncation of order m, which
  /// is 0 in the first call and one more in each. Half the integral over the sine of their square
  /// is 1. The tensor is the caller's own.
  at::Tensor next();

 private:
  at::Tensor sine_, cosine_, sectoral_;
  int64_t truncation_;
  int64_t order_ = 0;
};

}  // namespace isobar
