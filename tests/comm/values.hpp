// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace isobar::test {

/// A small integer that depends on the rank and the position: sums over four
/// ranks are exact in every type, bfloat16 among them.
inline double value(int rank, int64_t index) {
  return static_cast<double>((7 * rank + 3 * index) % 11 - 5);
}

/// value(rank, first), value(rank, first + 1), ...
inline at::Tensor ramp(at::ScalarType type, int rank, int64_t count, int64_t first = 0) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(value(rank, first + i));
  return at::tensor(values, at::kDouble).to(type);
}

inline std::vector<double> to_vector(const at::Tensor& tensor) {
  const auto doubles = tensor.to(at::kDouble).contiguous();
  const auto* first = doubles.const_data_ptr<double>();
  return {first, first + doubles.numel()};
}

}  // namespace isobar::test
