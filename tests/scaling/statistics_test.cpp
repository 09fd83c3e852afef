// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/statistics.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "comm/expect_error.hpp"

namespace isobar::test::statistics_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Between 0 and 1, without both.
double uniform(std::uint64_t place) {
  return (static_cast<double>(splitmix64(place * kSplitmix64Step) >> 11) + 0.5) /
         9007199254740992.0;
}

/// Exponential times of mean 1, whose median is ln 2: skewed, as times of steps are.
std::vector<double> draw_times(std::size_t count, std::uint64_t trial, double offset = 0) {
  std::vector<double> times;
  for (std::size_t i = 0; i < count; ++i) {
    times.push_back(offset - std::log(uniform(1 + trial * count + i)));
  }
  return times;
}

/// How often of 150 trials the interval holds the truth.
double coverage(const std::function<bool(std::uint64_t trial)>& holds) {
  constexpr int kTrials = 150;
  int held = 0;
  for (int trial = 0; trial < kTrials; ++trial) held += holds(static_cast<std::uint64_t>(trial));
  return static_cast<double>(held) / kTrials;
}

// 150 trials of 0.95 have a standard deviation of 0.018, and the percentile bootstrap of a median
// covers a little less or more than 0.95 at such counts.
constexpr double kLeast = 0.9, kMost = 0.99;

TEST(Estimate, HoldsTheMedianOfItsDistributionAsOftenAsItSays) {
  const double held = coverage([](std::uint64_t trial) {
    const auto found = estimate(draw_times(21, trial), trial);
    return found.low <= std::log(2) && std::log(2) <= found.high;
  });
  EXPECT_GE(held, kLeast);
  EXPECT_LE(held, kMost);
}

TEST(RatioOfMedians, HoldsOneForEqualDistributionsAsOftenAsItSays) {
  const double held = coverage([](std::uint64_t trial) {
    const auto ratio =
        ratio_of_medians(draw_times(15, 2 * trial, 3), draw_times(15, 2 * trial + 1, 3));
    return ratio.low <= 1 && 1 <= ratio.high;
  });
  EXPECT_GE(held, kLeast);
  EXPECT_LE(held, 1);
}

TEST(RatioOfMedians, HoldsTheTrueQuotient) {
  const double truth = (3 + std::log(2)) / (4 + std::log(2));
  const double held = coverage([&](std::uint64_t trial) {
    const auto ratio =
        ratio_of_medians(draw_times(15, 2 * trial, 3), draw_times(15, 2 * trial + 1, 4));
    return ratio.low <= truth && truth <= ratio.high;
  });
  EXPECT_GE(held, kLeast);
}

TEST(PairedRatio, DoesNotSeeADriftThatBothShare) {
  std::vector<double> a, b;
  for (int i = 0; i < 9; ++i) {
    b.push_back(1 + 0.2 * i);
    a.push_back(1.1 * b.back());
  }
  const auto paired = paired_ratio(a, b), unpaired = ratio_of_medians(a, b);
  EXPECT_NEAR(paired.low, 1.1, 1e-12);
  EXPECT_NEAR(paired.high, 1.1, 1e-12);
  EXPECT_LT(unpaired.low, 0.9);
}

TEST(Estimate, OfOneSampleIsThatSample) {
  const auto found = estimate({0.25});
  EXPECT_EQ(found.median, 0.25);
  EXPECT_EQ(found.low, 0.25);
  EXPECT_EQ(found.high, 0.25);
  EXPECT_EQ(found.count, 1u);
  EXPECT_TRUE(found.outliers.empty());
}

TEST(Estimate, OfEqualSamplesHasNoWidthAndNoOutlier) {
  const auto found = estimate({2, 2, 2, 2, 2});
  EXPECT_EQ(found.low, 2);
  EXPECT_EQ(found.high, 2);
  EXPECT_TRUE(found.outliers.empty());
}

TEST(Estimate, LiesBetweenTheLeastAndTheLargest) {
  const auto found = estimate({3, 1, 2});
  EXPECT_EQ(found.median, 2);
  EXPECT_EQ(found.low, 1);
  EXPECT_EQ(found.high, 3);
  EXPECT_EQ(estimate({4, 1, 2, 3}).median, 2.5);
}

TEST(Estimate, ScalesWithItsSamples) {
  const auto samples = draw_times(11, 5);
  auto scaled = samples;
  for (double& value : scaled) value *= 8;  // a power of two: no rounding
  const auto once = estimate(samples, 3), more = estimate(scaled, 3);
  EXPECT_EQ(more.median, 8 * once.median);
  EXPECT_EQ(more.low, 8 * once.low);
  EXPECT_EQ(more.high, 8 * once.high);
  EXPECT_EQ(more.outliers, once.outliers);
  EXPECT_EQ(ratio_of_medians(scaled, samples).value, 8);
}

TEST(Estimate, IsTheSameForTheSameSeed) {
  const auto samples = draw_times(8, 1);
  EXPECT_EQ(estimate(samples, 7).low, estimate(samples, 7).low);
  EXPECT_EQ(ratio_of_medians(samples, samples, 7).high, ratio_of_medians(samples, samples, 7).high);
}

TEST(Estimate, MarksWhatLiesFarAndKeepsIt) {
  const auto found = estimate({1.00, 1.02, 9, 0.98, 1.01});
  EXPECT_EQ(found.outliers, std::vector<std::size_t>{2});
  EXPECT_EQ(found.count, 5u);
  EXPECT_EQ(found.median, 1.01);
  EXPECT_EQ(estimate({1, 1, 1, 1, 5}).outliers, std::vector<std::size_t>{4})
      << "most are equal, so their median distance is 0";
  EXPECT_TRUE(estimate({1, 1, 1.001}).outliers.empty());
}

TEST(WeakEfficiency, IsTheTimeOfOneNodeOverThatOfMany) {
  const auto found = weak_efficiency({1.0, 1.0, 1.0}, {1.25, 1.25, 1.25});
  EXPECT_DOUBLE_EQ(found.value, 0.8);
  EXPECT_DOUBLE_EQ(found.low, 0.8);
  EXPECT_DOUBLE_EQ(found.high, 0.8);
}

TEST(StrongEfficiency, CountsTheNodes) {
  EXPECT_DOUBLE_EQ(strong_efficiency({8}, 1, {2}, 4).value, 1.0);
  EXPECT_DOUBLE_EQ(strong_efficiency({8}, 2, {2.5}, 8).value, 0.8);
  EXPECT_NEAR(strong_efficiency({8, 9}, 1, {4}, 4).high, 9.0 / 16, 1e-12);
}

TEST(RatioOfIntervals, AddsRelativeWidthsAsSquares) {
  const auto found =
      ratio_of_intervals({.value = 2, .low = 2, .high = 2}, {.value = 1, .low = 0.8, .high = 1.25});
  EXPECT_DOUBLE_EQ(found.value, 2);
  EXPECT_NEAR(found.low, 1.6, 1e-12);
  EXPECT_NEAR(found.high, 2.5, 1e-12);
  const Ratio wide{.value = 1, .low = std::exp(-0.3), .high = std::exp(0.3)};
  const Ratio wider{.value = 1, .low = std::exp(-0.4), .high = std::exp(0.4)};
  EXPECT_NEAR(ratio_of_intervals(wide, wider).high, std::exp(0.5), 1e-12);
}

TEST(Statistics, RefusesWhatIsNoSample) {
  expect_contains(error_of<UsageError>([] { estimate({}); }), "estimate: no samples");
  expect_contains(error_of<UsageError>([] {
                    estimate({1, kNan});
                  }),
                  "one of 2 samples is no finite");
  expect_contains(error_of<UsageError>([] { estimate({kInfinity}); }), "is no finite number");
  expect_contains(error_of<UsageError>([] { ratio_of_medians({1}, {}); }), "no samples");
  expect_contains(error_of<UsageError>([] { ratio_of_medians({1}, {0}); }), "above 0, got 0");
  expect_contains(error_of<UsageError>([] { paired_ratio({1, 2}, {1}); }), "got 2 and 1");
  expect_contains(error_of<UsageError>([] { strong_efficiency({1}, 0, {1}, 1); }), "got 0 and 1");
  expect_contains(error_of<UsageError>([] { ratio_of_intervals({kNan, 1, 1}, {}); }), "no finite");
}

}  // namespace
}  // namespace isobar::test::statistics_test
