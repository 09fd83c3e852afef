// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/parallel_step.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/bench/random_values.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/model/initialize.hpp>
#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>
#include <gtest/gtest.h>

namespace isobar::bench::parallel_step_test {
namespace {

StepMeasurement measure_own_network(Communicator& comm, const StepArguments& arguments,
                                    const ParallelArguments& parallel) {
  const auto make_workload = [&comm]() -> Workload {
    auto module = std::make_shared<torch::nn::LinearImpl>(64, 8);
    initialize_parameters(*module, /*seed=*/1);  // the same at every call, on every rank
    const auto x = random_values({32, 64}, 1, 0, "x " + std::to_string(comm.rank()));
    return {.module = module, .loss = [=] { return module->forward(x).square().mean(); }};
  };
  const auto ranks = make_communicator_subject(comm, Collective::all_gather);
  const auto step_case = make_step_case(arguments, parallel, make_workload, comm, nullptr);
  return measure_step(*ranks, step_case, {.repeats = 3});
}

TEST(ParallelStep, MeasuresANetworkOfOnesOwn) {
  run_ranks(2, [](Communicator& comm) {
    const auto step = measure_own_network(comm, {}, {});
    EXPECT_EQ(step.error, 0);
    EXPECT_EQ(step.step.count, 3);
    EXPECT_EQ(step.parameters, 64 * 8 + 8);
    EXPECT_EQ(step.payload_bytes, 4 * (64 * 8 + 8));
    EXPECT_EQ(step.sync, "ddp");
  });
}

TEST(ParallelStep, CountsAFusedUpdateAsNoTimeOfTheOptimizers) {
  run_ranks(2, [](Communicator& comm) {
    const auto step = measure_own_network(comm, {}, {.update = "fused"});
    EXPECT_EQ(step.error, 0);
    EXPECT_LT(step.optimizer_s, step.backward_s + step.exposed_comm_s);
  });
}

TEST(ParallelStep, AllowsWhatCompressionOwes) {
  run_ranks(2, [](Communicator& comm) {
    const auto step = measure_own_network(
        comm, {}, {.compress = {.method = "bf16", .low_rank = {.start_step = 0}}});
    EXPECT_EQ(step.error, 0);
    EXPECT_LT(step.payload_bytes, 4 * (64 * 8 + 8));
  });
}

TEST(ParallelStep, RefusesAWordThatIsNone) {
  run_ranks(1, [](Communicator& comm) {
    try {
      measure_own_network(comm, {}, {.launch = "count"});
      FAIL() << "nothing thrown";
    } catch (const UsageError& error) {
      EXPECT_STREQ(error.what(), "no launch 'count'; did you mean 'counted'?");
    }
  });
}

}  // namespace
}  // namespace isobar::bench::parallel_step_test
