// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/measure_step.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/thread_world.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <limits>

namespace isobar::bench::measure_step_test {
namespace {

const LinearStackOptions kNetwork{.layers = 3, .width = 16, .batch = 4};
constexpr int64_t kParameters = 3 * 16 * 17;
/// The first check, one step to warm up and three timed ones come before the last check.
const StepOptions kShort{.warmup = 1, .repeats = 3, .profile_repeats = 1};
constexpr int kLastCheck = 5;

using Spoil = std::function<void(torch::nn::Module&, int rank, int step)>;

/// The plainest way that is right: each gradient by itself, after the backward pass.
class PlainMean final : public StepSync {
 public:
  PlainMean(torch::nn::Module& module, Communicator& comm, Spoil spoil)
      : module_(module), comm_(comm), spoil_(std::move(spoil)) {}

  std::string name() const override { return "plain"; }
  void zero_grad() override { module_.zero_grad(); }
  void finish() override {
    const c10::NoGradGuard no_gradient;
    for (auto& parameter : trainable_parameters(module_)) {
      comm_.allreduce(parameter.mutable_grad()).wait();
      parameter.mutable_grad().div_(comm_.size());
      totals_.payload_bytes += static_cast<int64_t>(parameter.nbytes());
    }
    spoil_(module_, comm_.rank(), steps_++);
  }
  SyncTotals totals() const override { return totals_; }
  std::vector<SyncBucket> buckets() const override { return {{4, 5, 2, 3}, {0, 1}}; }

 private:
  torch::nn::Module& module_;
  Communicator& comm_;
  Spoil spoil_;
  SyncTotals totals_;
  int steps_ = 0;
};

std::function<void()> descend(torch::nn::Module& module) {
  return [&module] {
    const c10::NoGradGuard no_gradient;
    for (auto& parameter : trainable_parameters(module)) parameter.sub_(parameter.grad());
  };
}

/// What rank 0 measures over `ranks` ranks.
StepMeasurement measured(int ranks, const Spoil& spoil) {
  StepMeasurement result;
  run_ranks(ranks, [&](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    const StepCase step_case{
        .make_workload = [&] { return make_linear_stack(kNetwork, comm.rank()); },
        .make_sync = [&](auto& m) { return std::make_unique<PlainMean>(m, comm, spoil); },
        .make_optimizer = descend};
    const auto own = measure_step(*subject, step_case, kShort);
    if (comm.rank() == 0) result = own;
  });
  return result;
}

void leave_alone(torch::nn::Module&, int, int) {}

at::Tensor first_gradient(torch::nn::Module& module) {
  return trainable_parameters(module).front().mutable_grad();
}

TEST(MeasureStep, FindsGradientsRight) {
  for (const int ranks : {1, 2, 3}) {
    const auto result = measured(ranks, leave_alone);
    EXPECT_EQ(result.error, 0) << ranks;
    EXPECT_EQ(result.step.count, 3u);
    EXPECT_EQ(result.parameters, kParameters);
    EXPECT_EQ(result.payload_bytes, 4 * kParameters);
  }
}

TEST(MeasureStep, CatchesAGradientThatOneRankHasWrong) {
  const auto result = measured(2, [](auto& module, int rank, int) {
    if (rank == 1) first_gradient(module).view(-1)[3].add_(0.25);
  });
  EXPECT_EQ(result.error, std::numeric_limits<double>::max());  // the weights part, too
  EXPECT_NEAR(result.deviation, 0.25, 1e-6);
}

TEST(MeasureStep, CatchesAGradientThatAllRanksHaveWrong) {
  const auto result = measured(2, [](auto& module, int, int step) {
    if (step == kLastCheck) first_gradient(module).mul_(2);
  });
  EXPECT_GT(result.error, 0);
  EXPECT_LT(result.error, 1);
}

TEST(MeasureStep, CatchesWeightsThatPartedBetweenTheChecks) {
  const auto result = measured(2, [](auto& module, int rank, int step) {
    if (rank == 0 && step == 2) first_gradient(module).view(-1)[0].add_(1e-3);
  });
  EXPECT_EQ(result.error, std::numeric_limits<double>::max());
}

TEST(MeasureStep, TakesBucketsFromTheProfile) {
  const auto result = measured(2, leave_alone);
  ASSERT_EQ(result.buckets.size(), 2u);
  EXPECT_EQ(result.buckets[0].bytes, 4 * 2 * 16 * 17);
  EXPECT_EQ(result.buckets[1].bytes, 4 * 16 * 17);
  EXPECT_LT(result.buckets[0].ready_s, result.buckets[1].ready_s);
  EXPECT_EQ(result.buckets[1].ready_s,
            std::max(result.compute.ready_s[0], result.compute.ready_s[1]));
}

TEST(MeasureStep, WithoutSynchronisationChecksEachRankByItself) {
  run_ranks(2, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    const StepCase step_case{
        .make_workload = [&] { return make_linear_stack(kNetwork, comm.rank()); },
        .make_sync = make_no_sync,
        .make_optimizer = descend};
    const auto result = measure_step(*subject, step_case, kShort);
    EXPECT_EQ(result.error, 0);
    EXPECT_EQ(result.payload_bytes, 0);
    EXPECT_EQ(result.sync, "none");
  });
}

}  // namespace
}  // namespace isobar::bench::measure_step_test
