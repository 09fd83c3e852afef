// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/grad_scaler.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isobar::grad_scaler_test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::shared_ptr<torch::nn::Module> make_module() {
  auto module = std::make_shared<torch::nn::Module>("module");
  module->register_parameter("matrix", at::linspace(-1, 1, 35).view({5, 7}));
  module->register_parameter("vector", at::linspace(0.1, 2, 7));
  return module;
}

/// A rank that trains with scaled losses, or without.
struct Rank {
  Rank(Communicator& comm, OptimizerOptions options, bool scaled)
      : comm(comm),
        module(make_module()),
        parallel(*module, comm, {.reducer = {.caps = {.cap_bytes = 64, .first_cap_bytes = 64}}}),
        optimizer(parallel.reducer(), options),
        scaled(scaled) {}

  /// One step with gradients that differ from step to step and rank to rank; `factor` multiplies
  /// this rank's of the vector.
  bool step(int64_t number, double factor = 1) {
    const auto parameters = module->parameters();
    const auto rows = at::arange(5, at::kFloat).add(number + comm.rank()).cos();
    auto loss =
        (parameters[0].tanh() * rows.view({5, 1})).sum() + (parameters[1].square() * factor).sum();
    parallel.zero_grad();
    (scaled ? scaler.scale(loss) : loss).backward();
    parallel.finish();
    const auto& list = parallel.reducer().parameters();
    if (scaled && !scaler.unscale(list, comm)) return false;
    optimizer.step(0.01);
    return true;
  }

  /// Copies of all that a step may change.
  StateDict state() const {
    StateDict parts, copy;
    ModuleWeights(module).save(parts);
    optimizer.save(parts);
    for (const auto& [key, tensor] : parts.tensors()) copy.put(key, tensor.clone());
    for (const auto& [key, scalar] : parts.scalars()) copy.put_scalar(key, scalar);
    return copy;
  }

  Communicator& comm;
  std::shared_ptr<torch::nn::Module> module;
  DataParallel parallel;
  Optimizer optimizer;
  bool scaled;
  GradScaler scaler;
};

void expect_same_bits(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const auto& [key, tensor] : a.tensors()) {
    EXPECT_TRUE(at::equal(tensor, b.tensor(key))) << key;
  }
  EXPECT_EQ(a.scalars(), b.scalars());
}

class GradScalers : public testing::TestWithParam<std::tuple<const char*, FusedUpdate>> {
 protected:
  static OptimizerOptions options() {
    OptimizerOptions result;
    result.method = std::get<0>(GetParam());
    result.fused = std::get<1>(GetParam());
    result.momentum = 0.9;
    return result;
  }
};
INSTANTIATE_TEST_SUITE_P(Optimizers, GradScalers,
                         testing::Combine(testing::Values("adamw", "sgd"),
                                          testing::Values(FusedUpdate::on, FusedUpdate::off)));

TEST_P(GradScalers, LeaveEverythingAsItIsWhereARanksGradientOverflows) {
  for (const double factor : {kInfinity, 1e38, std::nan("")}) {
    run_ranks(2, [&](Communicator& comm) {
      Rank rank(comm, options(), true);
      for (int64_t s = 0; s < 3; ++s) EXPECT_TRUE(rank.step(s));
      const auto before = rank.state();
      EXPECT_FALSE(rank.step(3, comm.rank() == 1 ? factor : 1));
      expect_same_bits(rank.state(), before);
      EXPECT_EQ(rank.scaler.current(), 32768);
      EXPECT_EQ(rank.scaler.skipped(), 1);
      EXPECT_TRUE(rank.step(4)) << "what overflowed is gone with the step";
      EXPECT_EQ(rank.state().tensors().size(), before.tensors().size());
    });
  }
}

TEST_P(GradScalers, TrainAsWithoutThemToTheBit) {
  run_ranks(2, [&](Communicator& comm) {
    Rank scaled(comm, options(), true), plain(comm, options(), false);
    for (int64_t s = 0; s < 6; ++s) {
      EXPECT_TRUE(scaled.step(s));
      plain.step(s);
    }
    expect_same_bits(scaled.state(), plain.state());
  });
}

/// A parameter whose gradient a test sets.
struct Gradient {
  Gradient() { parameter.tensor.mutable_grad() = at::zeros({2}); }
  bool unscale(GradScaler& scaler, double value) {
    parameter.tensor.mutable_grad().fill_(value);
    return scaler.unscale({parameter}, *comm);
  }
  std::unique_ptr<Communicator> comm = make_self_communicator();
  NamedParameter parameter{"weight", at::ones({2}).set_requires_grad(true)};
};

TEST(GradScaler, HalvesAtAnOverflowAndDoublesAfterGoodSteps) {
  GradScaler scaler({.initial = 1024, .growth_interval = 3});
  Gradient gradient;
  const double good = 1;
  const std::vector<std::pair<double, double>> steps{
      {good, 1024}, {good, 1024}, {good, 2048},      {good, 2048}, {good, 2048}, {kInfinity, 1024},
      {good, 1024}, {good, 1024}, {-kInfinity, 512}, {good, 512},  {good, 512},  {good, 1024}};
  for (const auto& [value, scale] : steps) {
    EXPECT_EQ(gradient.unscale(scaler, value), value == good);
    EXPECT_EQ(scaler.current(), scale);
  }
}

TEST(GradScaler, DividesByTheScaleThatTheLossWasMultipliedBy) {
  GradScaler scaler({.initial = 1024, .growth_interval = 1});
  Gradient gradient;
  const auto loss = at::full({}, 3.0);
  for (const double scale : {1024.0, 2048.0}) {
    EXPECT_EQ(scaler.scale(loss).item<double>(), 3 * scale);
    EXPECT_TRUE(gradient.unscale(scaler, 5 * scale));
    EXPECT_EQ(gradient.parameter.tensor.grad()[1].item<float>(), 5);
  }
}

TEST(GradScaler, ComesBackWithItsScaleAndCounts) {
  GradScaler scaler({.initial = 1024, .growth_interval = 3});
  Gradient gradient;
  gradient.unscale(scaler, kInfinity);
  gradient.unscale(scaler, 1);
  gradient.unscale(scaler, 1);
  StateDict state;
  scaler.save(state);
  GradScaler restored({.growth_interval = 3});
  restored.load(state, 1);
  EXPECT_EQ(restored.current(), 512);
  EXPECT_EQ(restored.skipped(), 1);
  gradient.unscale(restored, 1);
  EXPECT_EQ(restored.current(), 1024) << "the third good step in a row";
}

TEST(GradScaler, RefusesAStateThatIsNone) {
  StateDict state;
  state.put_scalar("scale", 0.0);
  state.put_scalar("good_steps", int64_t{0});
  state.put_scalar("skipped", int64_t{0});
  EXPECT_THROW(GradScaler().load(state, 1), DataError);
}

TEST(GradScaler, GivesUpWhereNoScaleHelps) {
  run_ranks(2, [](Communicator& comm) {
    GradScaler scaler({.initial = 4, .minimum = 1});
    NamedParameter parameter{"weight", at::ones({2}).set_requires_grad(true)};
    parameter.tensor.mutable_grad() = at::full({2}, comm.rank() == 1 ? std::nan("") : 1);
    EXPECT_FALSE(scaler.unscale({parameter}, comm));
    EXPECT_FALSE(scaler.unscale({parameter}, comm));
    EXPECT_THROW(scaler.unscale({parameter}, comm), Error);
  });
}

TEST(GradScaler, StaysWithinFloat32) {
  GradScaler scaler({.initial = 0x1p126, .growth_interval = 1});
  Gradient gradient;
  for (int step = 0; step < 3; ++step) {
    EXPECT_TRUE(gradient.unscale(scaler, 1));
    EXPECT_EQ(scaler.current(), 0x1p127);
  }
}

TEST(GradScaler, RefusesOptionsThatMakeNoSense) {
  EXPECT_THROW(GradScaler({.initial = 0}), UsageError);
  EXPECT_THROW(GradScaler({.growth = 1}), UsageError);
  EXPECT_THROW(GradScaler({.backoff = 1}), UsageError);
  EXPECT_THROW(GradScaler({.growth_interval = 0}), UsageError);
}

}  // namespace
}  // namespace isobar::grad_scaler_test
