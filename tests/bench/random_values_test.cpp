// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/random_values.hpp>

#include <isobar/bench/workload.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

namespace isobar::bench::random_values_test {
namespace {

TEST(RandomValues, AreThoseOfTheRuleInAnotherLanguage) {
  // bench/baselines/random_values.py: random_values((3,), 0.5, 7, "layers.0.weight")
  const auto values = random_values({3}, 0.5, 7, "layers.0.weight");
  EXPECT_EQ(values[0].item<float>(), 0x1.8a248e0000000p-2f);
  EXPECT_EQ(values[1].item<float>(), -0x1.39d9c80000000p-3f);
  EXPECT_EQ(values[2].item<float>(), -0x1.a2c17a0000000p-2f);
}

TEST(RandomValues, DependOnSeedAndNameAndStayWithinTheBound) {
  const auto values = random_values({1000}, 0.5, 7, "a");
  EXPECT_TRUE(at::equal(values, random_values({1000}, 0.5, 7, "a")));
  EXPECT_FALSE(at::equal(values, random_values({1000}, 0.5, 8, "a")));
  EXPECT_FALSE(at::equal(values, random_values({1000}, 0.5, 7, "b")));
  EXPECT_LE(values.abs().max().item<float>(), 0.5);
  EXPECT_GT(values.abs().max().item<float>(), 0.49);
}

TEST(LinearStack, HasTheSameWeightsOnEveryRankAndDataOfItsOwn) {
  const LinearStackOptions options{.layers = 3, .width = 5, .batch = 2};
  const auto first = make_linear_stack(options, 0);
  const auto second = make_linear_stack(options, 1);
  const auto theirs = trainable_parameters(*second.module);
  const auto ours = trainable_parameters(*first.module);
  ASSERT_EQ(ours.size(), 6u);
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(at::equal(ours[i], theirs[i]));
  EXPECT_NE(first.loss().item<float>(), second.loss().item<float>());
}

TEST(LinearStack, IsLinearLayersWithReluBetween) {
  const LinearStackOptions options{.layers = 2, .width = 4, .batch = 3, .seed = 5};
  const auto work = make_linear_stack(options, 1);
  const auto p = trainable_parameters(*work.module);
  const auto x = random_values({3, 4}, 1, 5, "input 1");
  const auto y = random_values({3, 4}, 1, 5, "target 1");
  const auto out = at::linear(at::relu(at::linear(x, p[0], p[1])), p[2], p[3]);
  EXPECT_FLOAT_EQ(work.loss().item<float>(), (out - y).square().mean().item<float>());
}

}  // namespace
}  // namespace isobar::bench::random_values_test
