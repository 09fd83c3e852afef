// SPDX-License-Identifier: Apache-2.0
#include "value_bins.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace isobar {
namespace {

// The sign, the exponent and three bits of the fraction.
constexpr int kKeptBits = 12;
constexpr int64_t kBins = int64_t{1} << kKeptBits;
constexpr double kFar = 10;

/// Rises with the value: of a float's bits, taken as a number, positive values are in order, and
/// negative ones in reverse.
uint32_t bin_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t ordered = bits >> 31U != 0 ? ~bits : bits | 0x80000000U;
  return ordered >> (32U - kKeptBits);
}

/// What lies in a run of bins.
struct Part {
  int64_t count = 0;
  int64_t first_time = std::numeric_limits<int64_t>::max();
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();

  void join(const Part& other) {
    count += other.count;
    first_time = std::min(first_time, other.first_time);
    minimum = std::min(minimum, other.minimum);
    maximum = std::max(maximum, other.maximum);
  }
};

FarValues far(const Part& few, const Part& others) {
  return {few.count, few.first_time, few.minimum, few.maximum, others.minimum, others.maximum};
}

}  // namespace

std::string text_of(const FarValues& far) {
  return fmt::format(
      "{} values from {:.6g} to {:.6g}, far outside all others, {:.6g} to {:.6g} (a fill value "
      "would have to be the variable's _FillValue)",
      far.count, far.minimum, far.maximum, far.others_minimum, far.others_maximum);
}

ValueBins::ValueBins(int64_t variables)
    : counts(at::zeros({variables, kBins}, at::kLong)),
      first_times(at::full({variables, kBins}, std::numeric_limits<int64_t>::max(), at::kLong)),
      minima(at::full({variables, kBins}, std::numeric_limits<double>::infinity(), at::kDouble)),
      maxima(at::full({variables, kBins}, -std::numeric_limits<double>::infinity(), at::kDouble)) {}

void ValueBins::add(const at::Tensor& field, int64_t time) {
  const at::Tensor values = field.contiguous();
  const int64_t variables = values.size(1), all = values.numel();
  const auto* x = values.const_data_ptr<float>();
  auto* count = counts.mutable_data_ptr<int64_t>();
  auto* first = first_times.mutable_data_ptr<int64_t>();
  auto* low = minima.mutable_data_ptr<double>();
  auto* high = maxima.mutable_data_ptr<double>();
  int64_t v = 0;
  for (int64_t i = 0; i < all; ++i) {
    if (!std::isnan(x[i])) {
      const int64_t bin = v * kBins + bin_of(x[i]);
      ++count[bin];
      first[bin] = std::min(first[bin], time);
      low[bin] = std::min<double>(low[bin], x[i]);
      high[bin] = std::max<double>(high[bin], x[i]);
    }
    v = v + 1 == variables ? 0 : v + 1;
  }
}

std::optional<FarValues> ValueBins::far_values(int64_t variable) const {
  std::vector<Part> bins;
  for (int64_t bin = variable * kBins; bin < (variable + 1) * kBins; ++bin) {
    const auto count = counts.const_data_ptr<int64_t>()[bin];
    if (count == 0) continue;
    bins.push_back({count, first_times.const_data_ptr<int64_t>()[bin],
                    minima.const_data_ptr<double>()[bin], maxima.const_data_ptr<double>()[bin]});
  }
  // What lies above each bin.
  std::vector<Part> above(bins.size() + 1);
  for (size_t b = bins.size(); b-- > 0;) {
    above[b] = above[b + 1];
    above[b].join(bins[b]);
  }
  Part below;
  for (size_t b = 1; b < bins.size(); ++b) {
    below.join(bins[b - 1]);
    const bool few_below = below.count < above[b].count;
    const Part& few = few_below ? below : above[b];
    const Part& others = few_below ? above[b] : below;
    const double width = others.maximum - others.minimum;
    if (width > 0 && above[b].minimum - below.maximum > kFar * width) return far(few, others);
  }
  return std::nullopt;
}

}  // namespace isobar
