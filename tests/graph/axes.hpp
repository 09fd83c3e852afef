// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace isobar::test {

/// first, first + step, ...: `count` values.
inline std::vector<double> axis(double first, double step, int count) {
  std::vector<double> values(count);
  for (int i = 0; i < count; ++i) values[i] = first + i * step;
  return values;
}

}  // namespace isobar::test
