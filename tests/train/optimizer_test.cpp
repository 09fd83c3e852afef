// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/optimizer.hpp>

#include "core/message_of.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

namespace isobar::optimizer_test {
namespace {

struct Pair : torch::nn::Module {
  Pair() {
    a = register_parameter("a", at::linspace(-1, 1, 21, at::kDouble).view({3, 7}));
    b = register_parameter("b", at::linspace(2, 3, 5, at::kDouble));
  }
  at::Tensor loss(int step) {
    return (a.square().sum() + (b * (step + 1)).sin().sum()) / (1.0 + step);
  }
  at::Tensor a, b;
};

/// A module, what reduces it and its optimizer.
struct Training {
  explicit Training(const OptimizerOptions& options)
      : parallel(module, *comm), optimizer(parallel.reducer(), options) {}

  void run(int from, int to) {
    for (int step = from; step < to; ++step) {
      parallel.zero_grad();
      module.loss(step).backward();
      optimizer.finish(parallel, 0.0137);
    }
  }

  std::unique_ptr<Communicator> comm = make_self_communicator();
  Pair module;
  DataParallel parallel;
  Optimizer optimizer;
};

void move(const Training& from, Training& to) {
  StateDict state;
  from.optimizer.save(state);
  to.optimizer.load(state, 1);
  at::NoGradGuard no_grad;
  to.module.a.copy_(from.module.a);
  to.module.b.copy_(from.module.b);
}

OptimizerOptions with(const std::string& method, FusedUpdate fused) {
  OptimizerOptions options{.method = method, .fused = fused};
  if (method == "sgd") options.momentum = 0.9;
  return options;
}

class OptimizerMethods : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Methods, OptimizerMethods, testing::Values("adamw", "sgd"));

TEST_P(OptimizerMethods, HaveOneStateFusedOrNot) {
  const auto fused = with(GetParam(), FusedUpdate::on),
             unfused = with(GetParam(), FusedUpdate::off);
  for (const auto& [before, after] : {std::pair{fused, unfused}, std::pair{unfused, fused}}) {
    Training whole(after), first(before), second(after);
    whole.run(0, 8);
    first.run(0, 4);
    move(first, second);
    second.run(4, 8);
    // Rounding: the two round adamw's update in other places.
    EXPECT_TRUE(at::allclose(second.module.a, whole.module.a, 1e-14, 1e-15));
    EXPECT_TRUE(at::allclose(second.module.b, whole.module.b, 1e-14, 1e-15));
  }
}

TEST_P(OptimizerMethods, SaveTheSameKeysFusedOrNot) {
  Training fused(with(GetParam(), FusedUpdate::on)), unfused(with(GetParam(), FusedUpdate::off));
  StateDict a, b;
  for (auto* training : {&fused, &unfused}) training->run(0, 2);
  fused.optimizer.save(a);
  unfused.optimizer.save(b);
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  ASSERT_FALSE(a.tensors().empty());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    EXPECT_EQ(a.tensors()[i].first, b.tensors()[i].first);
    EXPECT_EQ(a.tensors()[i].second.sizes(), b.tensors()[i].second.sizes());
  }
  EXPECT_EQ(a.scalars(), b.scalars());
}

TEST(Optimizer, FusesWhereParametersAllowItUnlessToldOtherwise) {
  EXPECT_TRUE(Training({}).optimizer.fused());
  EXPECT_FALSE(Training({.fused = FusedUpdate::off}).optimizer.fused());

  const auto comm = make_self_communicator();
  Reducer complex({{"c", at::zeros({2}, at::kComplexFloat).requires_grad_(true)}}, *comm);
  EXPECT_FALSE(Optimizer(complex, {}).fused());
  EXPECT_THROW(Optimizer(complex, {.fused = FusedUpdate::on}), UsageError);
}

TEST(Optimizer, RefusesAStateOfAnotherShapeAndAnUnknownMethod) {
  for (const auto fused : {FusedUpdate::on, FusedUpdate::off}) {
    Training training({.fused = fused});
    StateDict state;
    state.put_scalar("a.step", 3);
    state.put("a.exp_avg", at::zeros({2}));
    state.put("a.exp_avg_sq", at::zeros({2}));
    EXPECT_EQ(test::message_of<DataError>([&] { training.optimizer.load(state, 1); }),
              "optimizer state 'a.exp_avg' has shape [2], the parameter [3, 7]");
  }
  EXPECT_EQ(test::message_of<UsageError>([] { Training({.method = "adam"}); }),
            "Optimizer: method must be adamw or sgd, got 'adam'");
}

}  // namespace
}  // namespace isobar::optimizer_test
