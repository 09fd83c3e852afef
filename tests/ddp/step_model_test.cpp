// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/step_model.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

namespace isobar::step_model_test {
namespace {

/// Two ranks send each byte once, so that the numbers below are easy: 1 s for 100 bytes.
constexpr int kRanks = 2;
constexpr AllreduceCost kWire{.latency_s = 0, .bytes_per_s = 100};

TEST(AllreduceCost, SendsTwiceTheShareOfTheOthers) {
  EXPECT_EQ(allreduce_sent_fraction(1), 0);
  EXPECT_EQ(allreduce_sent_fraction(2), 1);
  EXPECT_EQ(allreduce_sent_fraction(4), 1.5);
}

TEST(AllreduceCost, AddsLatencyOnce) {
  const AllreduceCost cost{.latency_s = 0.25, .bytes_per_s = 600};
  EXPECT_DOUBLE_EQ(cost.seconds(800, 4), 0.25 + 1.5 * 800 / 600);
  EXPECT_EQ(cost.seconds(800, 1), 0);
  EXPECT_DOUBLE_EQ(cost.seconds(0, 4), 0.25);
}

TEST(AllreduceCost, IsFittedExactlyThroughTwoSizes) {
  // x = 1.5 bytes: 150 in 0.35 s and 600 in 0.8 s is 0.2 s and 1000 bytes/s.
  const auto cost = fit_allreduce_cost({{100, 0.35}, {400, 0.8}}, 4).value();
  EXPECT_NEAR(cost.latency_s, 0.2, 1e-12);
  EXPECT_NEAR(cost.bytes_per_s, 1000, 1e-9);
}

TEST(AllreduceCost, FitsShortMessagesAsWellAsLongOnes) {
  // 1 s and 100 bytes/s, all but the longest exact: a plain least-squares fit to (1e6, 10500)
  // would have a latency of some -20 s.
  const auto cost =
      fit_allreduce_cost({{100, 2}, {200, 3}, {400, 5}, {800, 9}, {1'000'000, 10500}}, kRanks)
          .value();
  EXPECT_NEAR(cost.latency_s, 1, 0.1);
  EXPECT_NEAR(cost.bytes_per_s, 100, 5);
}

TEST(AllreduceCost, HasNoNegativeLatency) {
  // Through the origin, weighted: sum(x / t) / sum((x / t)^2) with x / t = 100 and 50.
  const auto cost = fit_allreduce_cost({{100, 1}, {200, 4}}, kRanks).value();
  EXPECT_EQ(cost.latency_s, 0);
  EXPECT_NEAR(cost.bytes_per_s, (100.0 * 100 + 50.0 * 50) / (100 + 50), 1e-9);
}

TEST(AllreduceCost, RefusesWhatItCannotFit) {
  EXPECT_THROW(fit_allreduce_cost({{100, 1}}, 2), UsageError);
  EXPECT_THROW(fit_allreduce_cost({{100, 1}, {100, 2}}, 2), UsageError);
  EXPECT_THROW(fit_allreduce_cost({{100, 1}, {200, 2}}, 1), UsageError);
  EXPECT_THROW(fit_allreduce_cost({{100, 1}, {200, 0}}, 2), UsageError);
}

TEST(AllreduceCost, HasNoRateWhereTimesDoNotGrow) {
  EXPECT_FALSE(fit_allreduce_cost({{100, 2}, {200, 1}}, kRanks));
  EXPECT_FALSE(fit_allreduce_cost({{100, 2}, {200, 2}}, kRanks));
}

TEST(StepModel, HidesWhatEndsBeforeTheBackwardPass) {
  const auto step = predict_step(
      {.forward_s = 1, .backward_s = 4, .optimizer_s = 0.5, .buckets = {{1, 100}, {2.5, 100}}},
      kWire, kRanks);
  EXPECT_EQ(step.end_s, (std::vector<double>{2, 3.5}));
  EXPECT_EQ(step.exposed_comm_s, 0);
  EXPECT_EQ(step.step_s, 5.5);
  EXPECT_EQ(step.bound_s, 5.5);
}

TEST(StepModel, WaitsForTheWire) {
  // The first allreduce runs from 1 to 4, so that the second one waits from 2 to 4.
  const auto step = predict_step(
      {.forward_s = 1, .backward_s = 2, .optimizer_s = 0.5, .buckets = {{1, 300}, {2, 100}}}, kWire,
      kRanks);
  EXPECT_EQ(step.end_s, (std::vector<double>{4, 5}));
  EXPECT_EQ(step.exposed_comm_s, 3);
  EXPECT_EQ(step.step_s, 6.5);
  EXPECT_EQ(step.bound_s, 6.5);
}

TEST(StepModel, IsAboveTheBoundWhereTheWireRestsBetweenBuckets) {
  // Free from 2 to 4, though 3 s of work are to be done after the first bucket is full at 1.
  const auto step = predict_step(
      {.forward_s = 0, .backward_s = 4, .optimizer_s = 0, .buckets = {{1, 100}, {4, 200}}}, kWire,
      kRanks);
  EXPECT_EQ(step.step_s, 6);
  EXPECT_EQ(step.bound_s, 4);
}

TEST(StepModel, PaysLatencyForEachBucketButNotInTheBound) {
  const AllreduceCost slow_start{.latency_s = 0.5, .bytes_per_s = 100};
  const auto step = predict_step(
      {.forward_s = 0, .backward_s = 1, .optimizer_s = 0, .buckets = {{1, 100}, {1, 100}}},
      slow_start, kRanks);
  EXPECT_EQ(step.exposed_comm_s, 3);
  EXPECT_EQ(step.bound_s, 3);
}

TEST(StepModel, OfOneRankOrWithoutBucketsIsComputation) {
  const StepCompute compute{
      .forward_s = 1, .backward_s = 2, .optimizer_s = 0.5, .buckets = {{1, 1000}}};
  EXPECT_EQ(predict_step(compute, {}, 1).step_s, 3.5);
  EXPECT_EQ(predict_step(compute, {}, 1).bound_s, 3.5);
  const auto unsynchronised = predict_step({.forward_s = 1, .backward_s = 2}, kWire, 4);
  EXPECT_EQ(unsynchronised.step_s, 3);
  EXPECT_EQ(unsynchronised.bound_s, 3);
}

TEST(StepModel, RefusesNegativeTimes) {
  EXPECT_THROW(predict_step({.forward_s = -1}, kWire, 2), UsageError);
  EXPECT_THROW(predict_step({.buckets = {{-1, 100}}}, kWire, 2), UsageError);
  EXPECT_THROW(predict_step({.buckets = {{1, 100}}}, {}, 2), UsageError);
}

StepCompute plain_compute() {
  return {.forward_s = 1, .backward_s = 4, .optimizer_s = 0.5, .buckets = {}};
}

TEST(StagedStep, IsThePlainStepWithOneStageAndNoComputation) {
  auto compute = plain_compute();
  compute.buckets = {{1, 100}, {2.5, 300}, {4, 50}};
  const AllreduceCost cost{.latency_s = 0.1, .bytes_per_s = 100};
  std::vector<StagedBucket> buckets;
  for (const auto& [ready_s, bytes] : compute.buckets) {
    buckets.push_back({.ready_s = ready_s, .stages = {{0, bytes}}});
  }
  const auto plain = predict_step(compute, cost, 4);
  const auto staged = predict_staged_step(compute, buckets, cost, 4);
  EXPECT_DOUBLE_EQ(staged.step_s, plain.step_s);
  EXPECT_DOUBLE_EQ(staged.exposed_comm_s, plain.exposed_comm_s);
  EXPECT_DOUBLE_EQ(staged.bound_s, plain.bound_s);
  for (size_t b = 0; b < buckets.size(); ++b) EXPECT_DOUBLE_EQ(staged.end_s[b], plain.end_s[b]);
}

TEST(StagedStep, DelaysWhatFollowsByItsComputation) {
  // Of two ranks, 100 bytes at 100 bytes/s take a second.
  const AllreduceCost cost{.latency_s = 0, .bytes_per_s = 100};
  const std::vector<StagedBucket> buckets{
      {.ready_s = 1, .stages = {{0.5, 100}}, .complete_s = 0.25},
      {.ready_s = 4, .stages = {{0.5, 100}}, .complete_s = 0.25}};
  const auto step = predict_staged_step(plain_compute(), buckets, cost, 2);
  EXPECT_DOUBLE_EQ(step.end_s[0], 2.5);         // full at 1, sent at 1.5
  EXPECT_DOUBLE_EQ(step.end_s[1], 6);           // full at 4.5, sent at 5
  EXPECT_DOUBLE_EQ(step.exposed_comm_s, 0.75);  // the first is completed meanwhile
  EXPECT_DOUBLE_EQ(step.step_s, 1 + 6.25 + 0.5);
}

TEST(StagedStep, StartsLaterStagesBetweenBucketsOrInTheEnd) {
  const AllreduceCost cost{.latency_s = 0, .bytes_per_s = 100};
  const StagedBucket::Stage stage{0.25, 100};
  const std::vector<StagedBucket> buckets{{.ready_s = 1, .stages = {stage, stage}},
                                          {.ready_s = 4, .stages = {stage, stage}}};
  const auto step = predict_staged_step(plain_compute(), buckets, cost, 2);
  // The first's second stage begins when the second bucket fills, at 4.25 + 0.25, behind it.
  EXPECT_DOUBLE_EQ(step.end_s[0], 6.5);
  // The second's ends its first at 5.5, computes until 5.75 and finds the wire taken until 6.5.
  EXPECT_DOUBLE_EQ(step.end_s[1], 7.5);
  EXPECT_DOUBLE_EQ(step.step_s, 1 + 7.5 + 0.5);
}

TEST(StagedStep, RefusesBucketsOfDifferentStages) {
  const AllreduceCost cost{.latency_s = 0, .bytes_per_s = 100};
  const std::vector<StagedBucket> uneven{{.ready_s = 1, .stages = {{0, 1}}},
                                         {.ready_s = 1, .stages = {{0, 1}, {0, 1}}}};
  EXPECT_THROW(predict_staged_step(plain_compute(), uneven, cost, 2), UsageError);
  EXPECT_THROW(predict_staged_step(plain_compute(), {{.ready_s = -1, .stages = {{0, 1}}}}, cost, 2),
               UsageError);
}

}  // namespace
}  // namespace isobar::step_model_test
