// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/buffer_policy.hpp>

#include "core/message_of.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <tuple>

namespace isobar::buffer_policy_test {
namespace {

/// Scales its input by a running mean, as batch norm does, and counts its calls.
struct Running : torch::nn::Module {
  Running() {
    weight = register_parameter("weight", at::ones({2}));
    mean = register_buffer("mean", at::zeros({2}));
    half = register_buffer("half", at::zeros({3}, at::kHalf));
    calls = register_buffer("calls", at::zeros({}, at::kLong));
  }
  at::Tensor forward(const at::Tensor& x) {
    calls += 1;
    mean.mul_(0.5).add_(x.detach(), 0.5);
    return (weight * x).sum();
  }
  at::Tensor weight, mean, half, calls;
};

constexpr BufferPolicy kCompare{.action = BufferAction::compare};
constexpr BufferPolicy kBroadcast{.action = BufferAction::broadcast};

void step(DataParallel& parallel, Running& module, double input) {
  parallel.zero_grad();
  module.forward(at::full({2}, input)).backward();
  parallel.finish();
}

/// What a step says in which `change` altered the module, on rank 1 of three.
std::string error_after(Communicator& comm, const std::function<void(Running&)>& change) {
  Running module;
  DataParallel parallel(module, comm, {.buffers = kCompare});
  step(parallel, module, 1);
  if (comm.rank() == 1) change(module);
  return test::message_of<UsageError>([&] { step(parallel, module, 1); });
}

std::string drift_of(const std::string& buffer) {
  return "DataParallel: step 2: buffer '" + buffer +
         "' of rank 1 of 3 differs from that of rank 0; find what changes it on one rank "
         "only, or let buffers.action broadcast it";
}

TEST(BufferPolicy, NamesABufferThatDiffersOnEveryRank) {
  run_ranks(3, [](Communicator& comm) {
    EXPECT_EQ(error_after(comm, [](Running& m) { m.calls += 1; }), drift_of("calls"));
    EXPECT_EQ(error_after(comm, [](Running& m) { m.half[2] = 0.5; }), drift_of("half"));
    EXPECT_EQ(error_after(comm, [](Running&) {}), "nothing thrown");
  });
}

TEST(BufferPolicy, NamesRunningStatisticsThatDrift) {
  run_ranks(2, [](Communicator& comm) {
    Running module;
    DataParallel parallel(module, comm, {.buffers = kCompare});
    EXPECT_NE(test::message_of<UsageError>([&] {
                step(parallel, module, comm.rank());
              }).find("step 1: buffer 'mean' of rank 1 of 2 differs"),
              std::string::npos);
  });
}

TEST(BufferPolicy, ComparesABufferThatWasReassigned) {
  run_ranks(3, [](Communicator& comm) {
    const auto reassign = [](at::Tensor value) {
      return [value](Running& m) { m.named_buffers()["mean"].set_data(value); };
    };
    EXPECT_EQ(error_after(comm, reassign(at::full({2}, 9.0))), drift_of("mean"));
    // Of another shape: the bits that it has are the same ones.
    EXPECT_EQ(error_after(comm, reassign(at::full({1, 2}, 0.5))), drift_of("mean"));
  });
}

TEST(BufferPolicy, NamesTheRankThatHasGotAnotherBuffer) {
  run_ranks(3, [](Communicator& comm) {
    const auto error =
        error_after(comm, [](Running& m) { m.register_buffer("late", at::zeros({1})); });
    EXPECT_NE(error.find("rank 1 has 4 buffers, 3 when the module was wrapped"), std::string::npos)
        << error;
  });
}

TEST(BufferPolicy, ComparesTheReplicasOfAGridAndTellsTheWorld) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    Running module;
    module.calls += comm.rank() % 2;  // may differ inside a model
    DataParallel parallel(module, grid, {.buffers = kCompare});
    step(parallel, module, 1);
    if (comm.rank() == 3) module.calls += 1;
    const auto error = test::message_of<UsageError>([&] { step(parallel, module, 1); });
    EXPECT_NE(error.find("step 2: buffer 'calls' of rank 3 of 4 differs from that of rank 1"),
              std::string::npos)
        << error;
  });
}

TEST(BufferPolicy, ComparesEveryKthStepOnly) {
  run_ranks(2, [](Communicator& comm) {
    Running module;
    DataParallel parallel(module, comm, {.buffers = {.action = BufferAction::compare, .every = 2}});
    step(parallel, module, comm.rank());
    EXPECT_EQ(parallel.buffer_counters().comparisons, 0);
    EXPECT_THROW(step(parallel, module, comm.rank()), UsageError);
  });
}

TEST(BufferPolicy, BroadcastsWholeAndHalfNumbersAndReassignedBuffers) {
  run_ranks(2, [](Communicator& comm) {
    Running module;
    DataParallel parallel(module, comm, {.buffers = kBroadcast});
    module.named_buffers()["half"].set_data(at::full({3}, 1.5 + comm.rank(), at::kHalf));
    module.calls += 10 * comm.rank();
    step(parallel, module, comm.rank());
    EXPECT_TRUE(at::equal(module.half, at::full({3}, 1.5, at::kHalf)));
    EXPECT_TRUE(at::equal(module.mean, at::zeros({2})));
    EXPECT_EQ(module.calls.item<int64_t>(), 1);
  });
}

TEST(BufferPolicy, CountsWhatItDoesAndTheTime) {
  run_ranks(2, [](Communicator& comm) {
    for (const auto& [policy, broadcasts, comparisons] :
         {std::tuple{BufferPolicy{}, 0, 0}, std::tuple{kBroadcast, 2, 0},
          std::tuple{kCompare, 0, 2}}) {
      Running module;
      DataParallel parallel(module, comm, {.buffers = policy});
      for (int i = 0; i < 2; ++i) step(parallel, module, 1);
      const auto& counters = parallel.buffer_counters();
      EXPECT_EQ(counters.broadcasts, broadcasts);
      EXPECT_EQ(counters.comparisons, comparisons);
      EXPECT_EQ(counters.seconds > 0, broadcasts + comparisons > 0);
    }
  });
}

TEST(BufferPolicy, IsRefusedOnEveryRankWhereOneIsInvalidOrDiffers) {
  run_ranks(2, [](Communicator& comm) {
    Running module;
    EXPECT_THROW(DataParallel(module, comm, {.buffers = {.every = comm.rank()}}), UsageError);
    EXPECT_THROW(DataParallel(module, comm, {.buffers = comm.rank() == 0 ? kCompare : kBroadcast}),
                 UsageError);
  });
}

}  // namespace
}  // namespace isobar::buffer_policy_test
