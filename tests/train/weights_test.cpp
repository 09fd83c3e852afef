// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/weights.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

namespace isobar::weights_test {
namespace {

std::shared_ptr<torch::nn::Module> module_with(double value, int64_t size = 3) {
  auto module = std::make_shared<torch::nn::Module>("module");
  module->register_parameter("weight", at::full({size}, value));
  return module;
}

double value_of(const torch::nn::Module& module) {
  return module.parameters().front()[0].item<double>();
}

void fill(torch::nn::Module& module, double value) {
  module.parameters().front().detach().fill_(value);
}

TEST(ModuleWeights, ComeBackByName) {
  StateDict state;
  ModuleWeights(module_with(5)).save(state);
  const auto other = module_with(0);
  ModuleWeights(other).load(state, 1);
  EXPECT_EQ(value_of(*other), 5);
}

TEST(ModuleWeights, RefuseAnotherShapeOrOtherNames) {
  StateDict state;
  ModuleWeights(module_with(5, 4)).save(state);
  EXPECT_THROW(ModuleWeights(module_with(0)).load(state, 1), DataError);
  state.put("extra", at::zeros({1}));
  EXPECT_THROW(ModuleWeights(module_with(0, 4)).load(state, 1), DataError);
}

TEST(WeightAverage, FollowsItsFormula) {
  const auto module = module_with(0);
  WeightAverage average(module, 0.5);
  double expected = 0;
  for (int n = 1; n <= 12; ++n) {
    fill(*module, n);
    average.update();
    const double decay = std::min(0.5, (1.0 + n) / (10.0 + n));
    expected = decay * expected + (1 - decay) * n;
  }
  average.swap();
  EXPECT_NEAR(value_of(*module), expected, 1e-5);
  average.swap();
  EXPECT_EQ(value_of(*module), 12);
}

TEST(WeightAverage, IsRestoredWithItsCount) {
  const auto module = module_with(4);
  WeightAverage average(module, 0.9);
  average.update();
  StateDict state;
  average.save(state);
  EXPECT_EQ(state.integer("updates"), 1);
  const auto other = module_with(0);
  WeightAverage restored(other, 0.9);
  restored.load(state, 1);
  restored.swap();
  EXPECT_EQ(value_of(*other), 4);
}

TEST(WeightAverage, RefusesADecayThatIsNone) {
  EXPECT_THROW(WeightAverage(module_with(0), 1), UsageError);
}

}  // namespace
}  // namespace isobar::weights_test
