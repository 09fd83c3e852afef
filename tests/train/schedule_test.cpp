// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/schedule.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>

namespace isobar::schedule_test {
namespace {

constexpr LearningRateSchedule kSchedule{
    .peak = 1.0, .final = 0.25, .warmup_steps = 3, .total_steps = 103};

TEST(LearningRateSchedule, WarmsUpInEqualStepsToThePeak) {
  EXPECT_EQ(kSchedule.at(0), 0.25);
  EXPECT_EQ(kSchedule.at(1), 0.5);
  EXPECT_EQ(kSchedule.at(2), 0.75);
  EXPECT_EQ(kSchedule.at(3), 1.0);
}

TEST(LearningRateSchedule, FollowsHalfACosineToTheFinalRate) {
  // cos(pi / 4) and cos(pi / 2) at a quarter and a half of the way.
  EXPECT_NEAR(kSchedule.at(28), 0.25 + 0.75 * (1 + 0.70710678118654752) / 2, 1e-15);
  EXPECT_NEAR(kSchedule.at(53), 0.625, 1e-15);
  EXPECT_GT(kSchedule.at(102), 0.25);
}

TEST(LearningRateSchedule, StaysAtTheFinalRate) {
  EXPECT_EQ(kSchedule.at(103), 0.25);
  EXPECT_EQ(kSchedule.at(1000000), 0.25);
}

TEST(LearningRateSchedule, DoesWithoutWarmUpAndWithNothingElse) {
  EXPECT_EQ((LearningRateSchedule{.peak = 2, .total_steps = 10}.at(0)), 2);
  const LearningRateSchedule only_warm_up{.peak = 1, .warmup_steps = 1, .total_steps = 1};
  EXPECT_EQ(only_warm_up.at(0), 0.5);
  EXPECT_EQ(only_warm_up.at(1), 0);
}

TEST(LearningRateSchedule, RefusesWhatMakesNoSense) {
  EXPECT_THROW(kSchedule.at(-1), UsageError);
  EXPECT_THROW((LearningRateSchedule{.warmup_steps = 5, .total_steps = 4}.at(0)), UsageError);
  EXPECT_THROW((LearningRateSchedule{.peak = -1}.at(0)), UsageError);
}

TEST(RolloutSchedule, GrowsByOneStepUpToItsMaximum) {
  const RolloutSchedule schedule{.start = 2, .every = 10, .maximum = 4};
  EXPECT_EQ(schedule.at(0), 2);
  EXPECT_EQ(schedule.at(9), 2);
  EXPECT_EQ(schedule.at(10), 3);
  EXPECT_EQ(schedule.at(20), 4);
  EXPECT_EQ(schedule.at(1000000), 4);
}

TEST(RolloutSchedule, StaysAsItStartedWhereItDoesNotGrow) {
  EXPECT_EQ((RolloutSchedule{.start = 3, .maximum = 12}.at(100000)), 3);
  EXPECT_EQ(RolloutSchedule{}.at(5), 1);
}

TEST(RolloutSchedule, RefusesWhatMakesNoSense) {
  EXPECT_THROW(RolloutSchedule{}.at(-1), UsageError);
  EXPECT_THROW(RolloutSchedule{.start = 0}.at(0), UsageError);
  EXPECT_THROW((RolloutSchedule{.start = 3, .maximum = 2}.at(0)), UsageError);
  EXPECT_THROW((RolloutSchedule{.every = -1}.at(0)), UsageError);
}

}  // namespace
}  // namespace isobar::schedule_test
