// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

namespace isobar {

/// How far apart float32's numbers are among those from `minimum` to `maximum`, at the largest.
inline double float_step(double minimum, double maximum) {
  const auto largest = static_cast<float>(std::max(std::abs(minimum), std::abs(maximum)));
  return std::nextafter(largest, std::numeric_limits<float>::infinity()) - largest;
}

}  // namespace isobar
