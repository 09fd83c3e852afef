// SPDX-License-Identifier: Apache-2.0
#include <isobar/projection/network_model.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "projection/expect_refusal.hpp"

namespace isobar::test::network_model_test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

std::vector<NetworkSample> samples_of(const NetworkModel& model, const std::vector<int>& nodes) {
  std::vector<NetworkSample> samples;
  for (const int count : nodes) {
    for (const std::int64_t bytes : {std::int64_t{256}, kMiB, 64 * kMiB, 512 * kMiB}) {
      samples.push_back({.nodes = count,
                         .node_ranks = 4,
                         .bytes = bytes,
                         .seconds = model.seconds(bytes, count, 4)});
    }
  }
  return samples;
}

TEST(NetworkModel, IsFoundAgainFromItsOwnTimes) {
  const NetworkModel truth{
      .hop_s = 9e-6, .byte_s = 4e-12, .spread_byte_s = 8e-12, .fill_s = 1.4e-8};
  const auto fit = fit_network(samples_of(truth, {2, 4, 8, 16}));
  EXPECT_NEAR(fit.model.hop_s, truth.hop_s, 1e-9 * truth.hop_s);
  EXPECT_NEAR(fit.model.byte_s, truth.byte_s, 1e-6 * truth.byte_s);
  EXPECT_NEAR(fit.model.spread_byte_s, truth.spread_byte_s, 1e-6 * truth.spread_byte_s);
  EXPECT_NEAR(fit.model.fill_s, truth.fill_s, 1e-6 * truth.fill_s);
  EXPECT_LT(fit.residual, 1e-9);
}

TEST(NetworkModel, OneRankTakesNoTimeAndMoreNodesNeverLess) {
  const NetworkModel model{
      .hop_s = 9e-6, .byte_s = 4e-12, .spread_byte_s = 8e-12, .fill_s = 1.4e-8};
  EXPECT_EQ(model.seconds(kMiB, 1, 1), 0);
  EXPECT_EQ(model.seconds(0, 64, 4), 0);
  double before = 0;
  for (int nodes = 1; nodes <= 1024; nodes *= 2) {
    const double seconds = model.seconds(64 * kMiB, nodes, 4);
    EXPECT_GT(seconds, before) << nodes;
    before = seconds;
  }
}

TEST(NetworkModel, NoCoefficientIsNegativeWhateverTheSamples) {
  // Times that fall with the nodes, which no term can say.
  const auto fit = fit_network({{.nodes = 2, .bytes = 256, .seconds = 9e-5},
                                {.nodes = 4, .bytes = 256, .seconds = 6e-5},
                                {.nodes = 8, .bytes = 256, .seconds = 3e-5},
                                {.nodes = 2, .bytes = kMiB, .seconds = 9e-4},
                                {.nodes = 8, .bytes = kMiB, .seconds = 5e-4}});
  EXPECT_GE(fit.model.hop_s, 0);
  EXPECT_GE(fit.model.byte_s, 0);
  EXPECT_GE(fit.model.spread_byte_s, 0);
  EXPECT_GE(fit.model.fill_s, 0);
  EXPECT_GT(fit.residual, 0.05);
}

TEST(NetworkModel, OneNumberOfNodesTellsLatencyAndWireAlone) {
  const NetworkModel truth{.hop_s = 5e-4, .byte_s = 8e-9};
  const auto fit = fit_network(samples_of(truth, {4}));
  EXPECT_NEAR(fit.model.hop_s, truth.hop_s, 1e-9);
  EXPECT_NEAR(fit.model.byte_s, truth.byte_s, 1e-15);
  EXPECT_EQ(fit.model.spread_byte_s, 0);
  EXPECT_EQ(fit.model.fill_s, 0);
}

TEST(NetworkModel, DrawsLieAboutTheFitAsWideAsItsSamplesScatter) {
  auto samples = samples_of({.hop_s = 9e-6, .byte_s = 1e-11}, {2, 4, 8, 16});
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].seconds *= i % 2 == 0 ? 1.1 : 0.9;
  const auto fit = fit_network(samples);
  EXPECT_NEAR(fit.residual, 0.1, 0.03);
  const auto above = fit.draw([] { return 1.0; });
  const auto below = fit.draw([] { return -1.0; });
  const double at = fit.model.seconds(64 * kMiB, 8, 4);
  EXPECT_GT(above.seconds(64 * kMiB, 8, 4), at);
  EXPECT_LT(below.seconds(64 * kMiB, 8, 4), at);
  EXPECT_GT(below.seconds(64 * kMiB, 8, 4), 0.7 * at);
}

TEST(NetworkModel, RefusesWhatSaysNothing) {
  const NetworkSample good{.nodes = 2, .bytes = 256, .seconds = 1e-5};
  expect_refusal([&] { fit_network({good, good}); }, {"two sizes or more, got 1"});
  expect_refusal(
      [&] {
        fit_network({{.nodes = 1, .node_ranks = 4, .bytes = 256, .seconds = 1e-5},
                     {.nodes = 1, .node_ranks = 4, .bytes = kMiB, .seconds = 1e-4}});
      },
      {"over two nodes or more"});
  expect_refusal(
      [&] {
        fit_network({good, {.nodes = 2, .bytes = kMiB, .seconds = 0}});
      },
      {"1048576 bytes", "positive values"});
}

}  // namespace
}  // namespace isobar::test::network_model_test
