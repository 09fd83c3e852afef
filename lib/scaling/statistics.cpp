// SPDX-License-Identifier: Apache-2.0
// Functions of their arguments. What is random is drawn from splitmix64 by the caller's seed, in an
// order that nothing else changes, so that a table made twice is the same. A resample is as large
// as its samples, and 10,000 of them bring the ends of an interval to about a hundredth of its
// width.
#include <isobar/scaling/statistics.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/summary.hpp>

#include <algorithm>
#include <cmath>
#include <string>

namespace isobar {
namespace {

constexpr int kResamples = 10'000;
constexpr double kTail = 0.025;
constexpr double kFar = 3.5;
/// Of a normal distribution, its standard deviation over the median and the mean of distances.
constexpr double kOverMedianDistance = 1.4826;
constexpr double kOverMeanDistance = 1.2533;

/// The generator is splitmix64: the standard library's distributions differ between machines.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : state_(splitmix64(seed + kSplitmix64Step)) {}

  /// Below `count`, all alike but for less than count / 2^32.
  std::size_t below(std::size_t count) {
    state_ += kSplitmix64Step;
    return static_cast<std::size_t>(((splitmix64(state_) >> 32) * count) >> 32);
  }

 private:
  std::uint64_t state_;
};

double median_in_place(std::vector<double>& samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  if (samples.size() % 2 == 1) return *middle;
  const double below = *std::max_element(samples.begin(), middle);
  return below + (*middle - below) / 2;
}

double median_of(std::vector<double> samples) { return median_in_place(samples); }

/// The median of as many samples, drawn with replacement.
double resampled_median(const std::vector<double>& samples, Draws& draws,
                        std::vector<double>& room) {
  room.resize(samples.size());
  for (double& value : room) value = samples[draws.below(samples.size())];
  return median_in_place(room);
}

Ratio with_interval(double value, std::vector<double> resampled) {
  std::sort(resampled.begin(), resampled.end());
  return {
      .value = value, .low = quantile(resampled, kTail), .high = quantile(resampled, 1 - kTail)};
}

Ratio bootstrap_median(const std::vector<double>& samples, std::uint64_t seed) {
  Draws draws(seed);
  std::vector<double> medians(kResamples), room;
  for (double& value : medians) value = resampled_median(samples, draws, room);
  return with_interval(median_of(samples), std::move(medians));
}

void check_finite(const std::string& who, const std::vector<double>& samples) {
  ISOBAR_CHECK(!samples.empty(), who, ": no samples were given");
  for (const double sample : samples) {
    ISOBAR_CHECK(std::isfinite(sample), who, ": one of ", samples.size(),
                 " samples is no finite number");
  }
}

void check_above_zero(const std::string& who, const std::vector<double>& samples) {
  check_finite(who, samples);
  for (const double sample : samples) {
    ISOBAR_CHECK(sample > 0, who, ": samples must be above 0, got ", sample);
  }
}

std::vector<double> distances(const std::vector<double>& samples, double median) {
  std::vector<double> all;
  for (const double sample : samples) all.push_back(std::abs(sample - median));
  return all;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

std::vector<std::size_t> find_outliers(const std::vector<double>& samples, double median) {
  const auto far = distances(samples, median);
  double deviation = kOverMedianDistance * median_of(far);
  if (deviation == 0) deviation = kOverMeanDistance * mean_of(far);
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < far.size(); ++i) {
    if (far[i] > kFar * deviation) found.push_back(i);
  }
  return found;
}

}  // namespace

Estimate estimate(const std::vector<double>& samples, std::uint64_t seed) {
  check_finite("estimate", samples);
  const auto median = bootstrap_median(samples, seed);
  return {.median = median.value,
          .low = median.low,
          .high = median.high,
          .count = samples.size(),
          .outliers = find_outliers(samples, median.value)};
}

Ratio ratio_of_medians(const std::vector<double>& a, const std::vector<double>& b,
                       std::uint64_t seed) {
  check_above_zero("ratio_of_medians", a);
  check_above_zero("ratio_of_medians", b);
  Draws draws(seed);
  std::vector<double> ratios(kResamples), room;
  for (double& ratio : ratios) {
    const double above = resampled_median(a, draws, room);
    ratio = above / resampled_median(b, draws, room);
  }
  return with_interval(median_of(a) / median_of(b), std::move(ratios));
}

Ratio paired_ratio(const std::vector<double>& a, const std::vector<double>& b, std::uint64_t seed) {
  check_above_zero("paired_ratio", a);
  check_above_zero("paired_ratio", b);
  ISOBAR_CHECK(a.size() == b.size(), "paired_ratio: pairs have two samples each, got ", a.size(),
               " and ", b.size());
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return bootstrap_median(ratios, seed);
}

Ratio weak_efficiency(const std::vector<double>& t1, const std::vector<double>& tn,
                      std::uint64_t seed) {
  return ratio_of_medians(t1, tn, seed);
}

Ratio strong_efficiency(const std::vector<double>& t1, int n1, const std::vector<double>& tn, int n,
                        std::uint64_t seed) {
  ISOBAR_CHECK(n1 > 0 && n > 0, "strong_efficiency: wanted 1 node or more, got ", n1, " and ", n);
  const auto ratio = ratio_of_medians(t1, tn, seed);
  const double share = static_cast<double>(n1) / n;
  return {.value = ratio.value * share, .low = ratio.low * share, .high = ratio.high * share};
}

Ratio ratio_of_intervals(const Ratio& a, const Ratio& b) {
  for (const auto& each : {a, b}) {
    check_above_zero("ratio_of_intervals", {each.value, each.low, each.high});
  }
  const double below = std::hypot(std::log(a.value / a.low), std::log(b.high / b.value));
  const double above = std::hypot(std::log(a.high / a.value), std::log(b.value / b.low));
  const double ratio = a.value / b.value;
  return {.value = ratio, .low = ratio * std::exp(-below), .high = ratio * std::exp(above)};
}

}  // namespace isobar
