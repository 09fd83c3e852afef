// SPDX-License-Identifier: Apache-2.0
#include <isobar/projection/projection.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "projection/expect_refusal.hpp"

namespace isobar::test::projection_test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// Four buckets of 25 MiB, ready evenly in a backward pass of 200 ms.
ProjectionInput plain_input() {
  ProjectionInput input;
  input.compute = {.forward_s = 0.1, .backward_s = 0.2, .optimizer_s = 0.01};
  for (int b = 1; b <= 4; ++b) {
    input.buckets.push_back(
        {.ready_s = 0.05 * b, .stages = {{.compute_s = 0, .bytes = 25 * kMiB}}});
  }
  input.network.model = {.hop_s = 1e-5, .byte_s = 1e-10};
  return input;
}

double step_of(const ProjectionInput& input, int nodes) {
  return project_steps(input, {nodes}).front().step_s.value;
}

TEST(Projection, WithoutAnyNoiseIsTheSimulatedStep) {
  const auto input = plain_input();
  const auto steps = project_steps(input, {1, 2, 8});
  for (const auto& step : steps) {
    const auto simulated =
        simulate_staged_step(input.compute, input.buckets, {.seconds = [&](std::int64_t bytes) {
                               return input.network.model.seconds(bytes, step.nodes, 1);
                             }});
    EXPECT_NEAR(step.step_s.value, simulated.step_s, 1e-12);
    EXPECT_NEAR(step.step_s.low, step.step_s.high, 1e-12);
    EXPECT_NEAR(step.efficiency.value, 0.31 / simulated.step_s, 1e-12);
    EXPECT_EQ(step.straggler_s, 0);
  }
}

TEST(Projection, TheSlowestOfMoreRanksIsSlowerAsTheMaximumOfNormalNumbersIs) {
  auto input = plain_input();
  input.network.model = {};  // no time on the wire
  input.jitter.between_ranks = 0.02;
  // Medians of the largest of n normal numbers, from tables of order statistics: the median m of
  // the largest of n has Phi(m) = 2^(-1/n).
  const std::vector<std::pair<int, double>> medians{{1, 0.0}, {16, 1.7243}, {512, 2.9955}};
  for (const auto& [nodes, median] : medians) {
    EXPECT_NEAR(step_of(input, nodes), 0.31 * std::exp(0.02 * median), 0.31 * 0.003) << nodes;
  }
}

TEST(Projection, OnRanksThatChangeFromStepToStepAllPayTheMaximumTooButItsIntervalIsNarrow) {
  auto stays = plain_input(), changes = plain_input();
  stays.network.model = changes.network.model = {};
  stays.jitter.between_ranks = 0.02;
  changes.jitter.between_steps = 0.02;
  const auto a = project_steps(stays, {64}).front(), b = project_steps(changes, {64}).front();
  EXPECT_NEAR(a.step_s.value, b.step_s.value, 0.005 * a.step_s.value);
  EXPECT_LT(b.step_s.high - b.step_s.low, 0.6 * (a.step_s.high - a.step_s.low));
}

TEST(Projection, OthersOnTheNetworkMakeItSlowerAndTheIntervalWide) {
  auto alone = plain_input();
  alone.network.model.byte_s = 2e-9;
  auto shared = alone;
  shared.shared = {.most_lost = 0.5, .group_nodes = 16, .machine_nodes = 1000};
  const auto a = project_steps(alone, {256}).front(), b = project_steps(shared, {256}).front();
  EXPECT_GT(b.step_s.value, 1.1 * a.step_s.value);
  EXPECT_GT(b.exposed_s, 1.2 * a.exposed_s);
  EXPECT_GT(b.step_s.high - b.step_s.low, 0.2 * b.step_s.value);
  EXPECT_NEAR(a.step_s.low, a.step_s.high, 1e-9);
}

TEST(Projection, CrossingShareGrowsWithTheJobAndIsNothingInsideAGroup) {
  const SharedNetwork cells{.most_lost = 0.5, .group_nodes = 180, .machine_nodes = 3456};
  EXPECT_EQ(crossing_share(cells, 1, 1), 0);
  EXPECT_EQ(crossing_share(cells, 100, 0), 0);
  EXPECT_NEAR(crossing_share(cells, 360, 0), 0.5, 1e-12);
  EXPECT_NEAR(crossing_share(cells, 2, 1), 1 - 180.0 / 3456, 1e-12);
  EXPECT_GT(crossing_share(cells, 512, 0.5), crossing_share(cells, 256, 0.5));
}

TEST(Projection, WorkTakenFromTheComputingCoresLengthensTheBackwardPass) {
  auto input = plain_input();
  input.network.model = {.hop_s = 0, .byte_s = 1e-9};  // a bucket takes 26 ms at two nodes
  const double before = step_of(input, 2);
  input.compute_rate = 0.8;
  const double after = step_of(input, 2);
  // Three buckets are on the wire beside the pass: each costs a fifth of its time.
  const double wire_s = input.network.model.seconds(25 * kMiB, 2, 1);
  EXPECT_NEAR(after - before, 3 * 0.2 * wire_s, 0.02 * wire_s);
}

TEST(Projection, RanksMeetAsOftenAsATreeOfThemIsDeep) {
  auto input = plain_input();
  const double without = step_of(input, 4), alone = step_of(input, 1);
  input.meeting_s = 0.02;
  EXPECT_NEAR(step_of(input, 16) - step_of(plain_input(), 16), 0.02, 1e-9);  // known of no number
  input.meeting_ranks = 4;
  EXPECT_NEAR(step_of(input, 4) - without, 0.02, 1e-9);
  EXPECT_NEAR(step_of(input, 2) - step_of(plain_input(), 2), 0.01, 1e-3);
  EXPECT_NEAR(step_of(input, 16) - step_of(plain_input(), 16), 0.04, 2e-3);
  EXPECT_EQ(step_of(input, 1), alone);
}

TEST(Projection, IsLessSureTheFartherTheNetworkIsFromThePointThatIsKnown) {
  auto input = plain_input();
  input.network.model.byte_s = 1e-8;  // the wire is the step
  const auto width = [](const ProjectionInput& of, int nodes) {
    const auto step = project_steps(of, {nodes}).front().step_s;
    return (step.high - step.low) / step.value;
  };
  EXPECT_NEAR(width(input, 16), 0, 1e-9);
  input.known_nodes = 4;
  EXPECT_NEAR(width(input, 4), 0, 1e-9);
  EXPECT_GT(width(input, 8), 0.05);
  EXPECT_GT(width(input, 16), 1.5 * width(input, 8));
  input.known_rate_factor = 0.5;
  EXPECT_GT(width(input, 4), 0.05);
}

TEST(Projection, DataAndStartCountOnceTheyDoNotKeepUp) {
  auto input = plain_input();
  input.node_read_bytes = 1e9;
  input.storage_bytes_s = 100e9;
  const auto steps = project_steps(input, {1, 16, 128});
  EXPECT_EQ(steps[0].data_s, 0);
  EXPECT_EQ(steps[1].data_s, 0);  // 0.16 s of reading in a step of 0.31
  EXPECT_NEAR(steps[2].step_s.value, 1.28, 1e-9);
  input.start_s = 60;
  input.steps = 600;
  EXPECT_NEAR(project_steps(input, {128}).front().step_s.value, 1.38, 1e-9);
}

TEST(Projection, IsTheSameEachTimeAndAnotherWithAnotherSeed) {
  auto input = plain_input();
  input.jitter = {.between_ranks = 0.02, .between_steps = 0.01, .collectives = 0.1};
  const auto a = project_steps(input, {8}).front(), b = project_steps(input, {8}).front();
  const auto c = project_steps(input, {8}, {.seed = 1}).front();
  EXPECT_EQ(a.step_s.value, b.step_s.value);
  EXPECT_EQ(a.efficiency.low, b.efficiency.low);
  EXPECT_NE(a.step_s.value, c.step_s.value);
  EXPECT_NEAR(a.step_s.value, c.step_s.value, 0.003 * a.step_s.value);
}

TEST(Projection, RefusesWhatCannotBe) {
  auto input = plain_input();
  input.jitter.between_ranks = -0.1;
  expect_refusal([&] { project_steps(input, {1}); }, {"deviations", "-0.1"});
  input = plain_input();
  input.shared.most_lost = 1;
  expect_refusal([&] { project_steps(input, {1}); }, {"most_lost", "got 1"});
  expect_refusal([&] { project_steps(plain_input(), {0}); }, {"a node or more, got 0"});
  input = plain_input();
  input.compute_rate = 0;
  expect_refusal([&] { project_steps(input, {2}); }, {"compute_rate", "got 0"});
}

}  // namespace
}  // namespace isobar::test::projection_test
