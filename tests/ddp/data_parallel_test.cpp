// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/data_parallel.hpp>

#include "core/message_of.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/flat_optimizer.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <type_traits>

namespace isobar::data_parallel_test {
namespace {

// The end of a copy would be taken for the end of what it is a copy of.
static_assert(!std::is_copy_constructible_v<DataParallel>);
static_assert(!std::is_copy_constructible_v<FlatOptimizer>);
static_assert(!std::is_copy_constructible_v<Reducer>);

/// y = x · weight + bias with a frozen scale and a buffer that counts calls.
struct Affine : torch::nn::Module {
  explicit Affine(int seed) {
    weight = register_parameter("weight", at::full({3}, 1.0 + seed));
    bias = register_parameter("bias", at::full({}, 2.0 + seed));
    scale = register_parameter("scale", at::full({2}, 3.0 + seed), /*requires_grad=*/false);
    calls = register_buffer("calls", at::full({}, seed, at::kLong));
  }
  at::Tensor forward(const at::Tensor& x) {
    calls += 1;
    return (x * weight).sum() + bias;
  }
  at::Tensor weight, bias, scale, calls;
};

TEST(DataParallel, StartsEveryRankFromRankZero) {
  run_ranks(3, [](Communicator& comm) {
    Affine module(comm.rank());
    DataParallel parallel(module, comm);
    EXPECT_TRUE(at::equal(module.weight, at::full({3}, 1.0)));
    EXPECT_TRUE(at::equal(module.bias, at::full({}, 2.0)));
    EXPECT_TRUE(at::equal(module.scale, at::full({2}, 3.0)));
    EXPECT_EQ(module.calls.item<int64_t>(), 0);
  });
}

TEST(DataParallel, AveragesGradientsAndLeavesFrozenParametersAlone) {
  run_ranks(2, [](Communicator& comm) {
    Affine module(0);
    DataParallel parallel(module, comm);
    parallel.zero_grad();
    module.forward(at::full({3}, comm.rank() ? 1.0 : 5.0)).backward();
    parallel.finish();
    EXPECT_TRUE(at::equal(module.weight.grad(), at::full({3}, 3.0)));
    EXPECT_EQ(module.bias.grad().item<double>(), 1.0);
    EXPECT_FALSE(module.scale.grad().defined());
  });
}

/// Registers one tensor under two names.
struct Tied : torch::nn::Module {
  Tied() {
    first = register_parameter("first", at::full({3}, 1.0));
    register_parameter("second", first);
  }
  at::Tensor first;
};

TEST(DataParallel, TakesATensorUnderTwoNamesAsOneParameter) {
  run_ranks(2, [](Communicator& comm) {
    Tied module;
    DataParallel parallel(module, comm);
    EXPECT_EQ(parallel.reducer().parameters().size(), 1U);
    for (int step = 0; step < 2; ++step) {
      parallel.zero_grad();
      (module.first * (comm.rank() ? 1.0 : 5.0)).sum().backward();
      parallel.finish();
      EXPECT_TRUE(at::equal(module.first.grad(), at::full({3}, 3.0)));
    }
  });
}

/// The counter that each rank ends with after three steps in which rank r calls
/// the module r + 1 times.
int64_t calls_after_three_steps(Communicator& comm, BufferPolicy policy) {
  Affine module(0);
  DataParallel parallel(module, comm, {.buffers = policy});
  for (int step = 0; step < 3; ++step) {
    parallel.zero_grad();
    auto accumulate = parallel.accumulate();
    for (int call = 0; call <= comm.rank(); ++call) module.forward(at::ones({3})).backward();
    parallel.finish();
  }
  return module.calls.item<int64_t>();
}

TEST(DataParallel, BroadcastsBuffersByPolicy) {
  run_ranks(2, [](Communicator& comm) {
    const bool other = comm.rank() == 1;
    EXPECT_EQ(calls_after_three_steps(comm, {}), other ? 6 : 3);
    EXPECT_EQ(calls_after_three_steps(comm, {.action = BufferAction::broadcast}), 3);
    // At the end of the second step both have 2; in the third rank 1 counts two calls more.
    EXPECT_EQ(calls_after_three_steps(comm, {.action = BufferAction::broadcast, .every = 2}),
              other ? 4 : 3);
  });
}

TEST(DataParallel, AsksForEachParametersReductionByName) {
  run_ranks(2, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    Affine module(0);
    const auto reduction = [](const std::string& name) {
      return name == "bias" ? Reduction::partial : Reduction::replicated;
    };
    DataParallel parallel(module, grid,
                          {.reduction = reduction, .single_replica = SingleReplica::allowed});
    parallel.zero_grad();
    module.forward(at::ones({3})).backward();
    parallel.finish();
    EXPECT_TRUE(at::equal(module.weight.grad(), at::ones({3})));
    EXPECT_EQ(module.bias.grad().item<double>(), 2.0);
  });
}

TEST(DataParallel, KeepsShardsWhenItCopiesTheFirstReplica) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    Affine module(comm.rank());
    DataParallel parallel(module, grid, {.reduction = [](const std::string& name) {
                            return name == "weight" ? Reduction::sharded : Reduction::replicated;
                          }});
    EXPECT_TRUE(at::equal(module.weight, at::full({3}, 1.0 + comm.rank() % 2)));
    EXPECT_TRUE(at::equal(module.bias, at::full({}, 2.0)));
  });
}

TEST(DataParallel, RefusesAGridOfOneReplicaUnlessAskedFor) {
  run_ranks(2, [](Communicator& comm) {
    Affine module(0);
    ProcessGrid grid(comm, 2);
    EXPECT_EQ(test::message_of<UsageError>([&] { DataParallel(module, grid); }),
              "DataParallel: all 2 ranks belong to one model, so that no other replica shares the "
              "samples; give ProcessGrid fewer ranks a model than 2, or set .single_replica = "
              "SingleReplica::allowed");
  });
}

TEST(DataParallel, TakesAGridOfOneRank) {
  const auto comm = make_self_communicator();
  ProcessGrid grid(*comm, 1);
  Affine module(0);
  DataParallel parallel(module, grid);
  parallel.zero_grad();
  module.forward(at::ones({3})).backward();
  parallel.finish();
  EXPECT_TRUE(at::equal(module.weight.grad(), at::ones({3})));
}

TEST(DataParallel, HandsItsOptionsToTheReducer) {
  run_ranks(2, [](Communicator& comm) {
    Affine module(0);
    DataParallel parallel(module, comm,
                          {.reducer = {.caps = {.cap_list = {1}}, .launch = Launch::at_finish}});
    EXPECT_EQ(parallel.reducer().plan().size(), 2);
    parallel.zero_grad();
    for (int pass = 0; pass < 2; ++pass) module.forward(at::full({3}, 5.0)).backward();
    parallel.finish();
    EXPECT_TRUE(at::equal(module.weight.grad(), at::full({3}, 10.0)));
    EXPECT_EQ(parallel.reducer().counters().launched_in_backward, 0);
  });
}

}  // namespace
}  // namespace isobar::data_parallel_test
