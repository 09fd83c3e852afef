// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/summary.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <limits>
#include <numeric>

namespace isobar::summary_test {
namespace {

std::vector<double> one_to(int n) {
  std::vector<double> samples(static_cast<std::size_t>(n));
  std::iota(samples.begin(), samples.end(), 1.0);
  return samples;
}

TEST(Summary, OrdersTheSamplesFirst) {
  const Summary summary = summarize({3, 1, 2});
  EXPECT_EQ(summary.count, 3U);
  EXPECT_EQ(summary.minimum, 1);
  EXPECT_EQ(summary.median, 2);
  EXPECT_EQ(summary.maximum, 3);
}

TEST(Summary, TakesTheMiddleOfAnEvenNumberAsMedian) {
  EXPECT_EQ(summarize({1, 2, 4, 8}).median, 3);
}

TEST(Summary, InterpolatesQuantilesLinearly) {
  EXPECT_EQ(quantile({0, 10}, 0.25), 2.5);
  EXPECT_EQ(summarize(one_to(21)).p95, 20);
  EXPECT_EQ(quantile(one_to(5), 1), 5);
}

// Ranks from the binomial table: P(B(6) < 1) = 1/64, P(B(6) < 2) = 7/64;
// P(B(20) < 6) = 0.0207, P(B(20) < 7) = 0.0577; n = 100 gives 40 and 61.
TEST(Summary, GivesTheBinomialIntervalOfTheMedian) {
  EXPECT_EQ(summarize(one_to(6)).interval_low, 1);
  EXPECT_EQ(summarize(one_to(9)).interval_low, 2);
  EXPECT_EQ(summarize(one_to(20)).interval_low, 6);
  EXPECT_EQ(summarize(one_to(20)).interval_high, 15);
  EXPECT_EQ(summarize(one_to(100)).interval_low, 40);
  EXPECT_EQ(summarize(one_to(100)).interval_high, 61);
}

TEST(Summary, TakesTheWholeRangeWhereTooFewSamplesCannotReach95Percent) {
  const Summary summary = summarize({5, 7, 6});
  EXPECT_EQ(summary.interval_low, 5);
  EXPECT_EQ(summary.interval_high, 7);
}

TEST(Summary, OfOneSampleIsThatSample) {
  const Summary summary = summarize({4});
  EXPECT_EQ(summary.p95, 4);
  EXPECT_EQ(summary.interval_low, 4);
}

TEST(Summary, SurvivesManySamples) {
  EXPECT_NEAR(summarize(one_to(100000)).interval_low, 50000 - 1.96 * 0.5 * 316.23, 2);
}

TEST(Summary, RefusesNoSamplesAndWhatIsNotANumber) {
  EXPECT_THROW(summarize({}), UsageError);
  EXPECT_THROW(summarize({1, std::numeric_limits<double>::quiet_NaN()}), UsageError);
  EXPECT_THROW(quantile({1}, 1.5), UsageError);
}

}  // namespace
}  // namespace isobar::summary_test
