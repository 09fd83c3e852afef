// SPDX-License-Identifier: Apache-2.0
#include "field_moments.hpp"

#include <algorithm>
#include <cmath>

namespace isobar {
namespace {

/// Sums over the points, with the variables inside, as they lie in memory. Two passes, since a
/// field is in the processor's cache or near it: deviations from the mean itself lose no digit,
/// and there is no division a value, as Welford's update has.
template <typename ValueAt>
std::vector<Moments> two_passes(int64_t points, int64_t variables, const ValueAt& value_at) {
  std::vector<Moments> moments(static_cast<size_t>(variables));
  const auto visit = [&](const auto& take) {
    for (int64_t i = 0; i < points; ++i) {
      for (int64_t v = 0; v < variables; ++v) {
        const double x = value_at(i * variables + v);
        if (x == x) take(moments[v], x);
      }
    }
  };
  visit([](Moments& m, double x) {
    m.count += 1;
    m.mean += x;  // the sum, which is divided below
    m.minimum = std::min(m.minimum, x);
    m.maximum = std::max(m.maximum, x);
  });
  for (Moments& m : moments) m.mean = m.count > 0 ? m.mean / m.count : 0;
  visit([](Moments& m, double x) {
    const double deviation = x - m.mean;
    m.squares += deviation * deviation;
  });
  return moments;
}

}  // namespace

std::vector<Moments> moments_of(const at::Tensor& field) {
  const at::Tensor values = field.contiguous();
  if (values.scalar_type() == at::kDouble) {
    const auto* x = values.const_data_ptr<double>();
    return two_passes(values.size(0), values.size(1), [x](int64_t i) { return x[i]; });
  }
  const auto* x = values.const_data_ptr<float>();
  return two_passes(values.size(0), values.size(1),
                    [x](int64_t i) { return static_cast<double>(x[i]); });
}

std::vector<Moments> moments_of_change(const at::Tensor& field, const at::Tensor& earlier) {
  const at::Tensor values = field.contiguous(), before = earlier.contiguous();
  const auto* x = values.const_data_ptr<float>();
  const auto* y = before.const_data_ptr<float>();
  return two_passes(values.size(0), values.size(1), [x, y](int64_t i) {
    return static_cast<double>(x[i]) - static_cast<double>(y[i]);
  });
}

double root_mean_square(const Moments& moments) {
  return moments.count == 0
             ? 0
             : std::sqrt(moments.squares / moments.count + moments.mean * moments.mean);
}

}  // namespace isobar
