// SPDX-License-Identifier: Apache-2.0
// Parameters that are frozen and thawed in the middle of a step, or on some ranks.
#include "ddp/frozen_parameters.hpp"

#include <isobar/ddp/data_parallel.hpp>
#include <isobar/ddp/flat_optimizer.hpp>
#include <torch/nn/module.h>
#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

#include <optional>

#include "ddp/exact.hpp"
#include "ddp/two_parameters.hpp"

#include "comm/expect_error.hpp"

namespace isobar::frozen_parameters_test {
namespace {

using namespace test;

/// LibTorch by itself on all samples: two micro-batches, of which the second comes once the
/// parameter is frozen.
TwoParameters trained_alone(int ranks) {
  TwoParameters net;
  torch::optim::SGD optimizer(net.parameters(), torch::optim::SGDOptions(0.5).momentum(0.5));
  for (int i = 0; i < 4; ++i) {
    optimizer.zero_grad();
    for (int micro = 0; micro < 2; ++micro) {
      if (i == 1 && micro == 1) net.weight.requires_grad_(false);
      for (int rank = 0; rank < ranks; ++rank) pass(net, rank, 1.0 / ranks);
    }
    optimizer.step();
  }
  return net;
}

struct FreezeCase {
  Launch launch;
  bool all_accumulate;  ///< otherwise the second pass is outside of accumulate()
  bool by_hook;
  bool flat;
};

/// The same on this rank's samples.
void train(TwoParameters& net, Communicator& comm, const FreezeCase& how) {
  DataParallel parallel(net, comm, {.reducer = {.caps = {.cap_list = {1}}, .launch = how.launch}});
  torch::optim::SGD plain(net.parameters(), torch::optim::SGDOptions(0.5).momentum(0.5));
  std::optional<FlatOptimizer> flat;
  if (how.flat) {
    flat.emplace(parallel.reducer(),
                 FlatOptimizerOptions{.rule = UpdateRule::sgd, .momentum = 0.5, .weight_decay = 0});
  }
  for (int i = 0; i < 4; ++i) {
    net.zero_grad();
    std::optional<AccumulationScope> scope(std::in_place, parallel.reducer());
    pass(net, comm.rank());
    if (!how.all_accumulate) scope.reset();
    if (i == 1 && !how.by_hook) net.weight.requires_grad_(false);
    auto loss = (net.bias * exact_gradient(net.bias, comm.rank())).sum();
    loss = loss + (net.weight * exact_gradient(net.weight, comm.rank())).sum();
    loss.register_hook([&](const at::Tensor& grad) {
      if (i == 1) net.weight.requires_grad_(false);
      return grad;
    });
    loss.backward();
    scope.reset();
    parallel.finish(flat ? flat->on_bucket(0.5) : BucketCallback());
    EXPECT_EQ(net.weight.grad().defined(), i < 2);
    if (!flat) plain.step();
  }
}

TEST(FreezingInMidStep, KeepsWhatWasAccumulatedAsLibTorchDoes) {
  const auto expected = trained_alone(2);
  for (const auto launch : kLaunches) {
    for (int bits = 0; bits < 8; ++bits) {
      const FreezeCase how{launch, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
      run_ranks(2, [&](Communicator& comm) {
        TwoParameters net;
        train(net, comm, how);
        EXPECT_TRUE(at::equal(net.weight, expected.weight)) << bits;
        EXPECT_TRUE(at::equal(net.bias, expected.bias)) << bits;
      });
    }
  }
}

TEST(FreezingInMidStep, LeavesAloneWhatWasZeroedSince) {
  run_ranks(2, [](Communicator& comm) {
    for (const bool drops : {false, true}) {
      TwoParameters net;
      DataParallel parallel(net, comm);
      {
        const auto scope = parallel.accumulate();
        pass(net, comm.rank());
      }
      net.zero_grad(drops);
      net.weight.requires_grad_(false);
      pass(net, comm.rank());
      parallel.finish();
      EXPECT_FALSE(net.weight.grad().defined());
      EXPECT_TRUE(at::equal(net.bias.grad(), exact_mean(net.bias, 2)));
    }
  });
}

TEST(FreezingBetweenSteps, LeavesAloneWhatTheLastOneLeft) {
  run_ranks(2, [](Communicator& comm) {
    for (const bool accumulates : {false, true}) {
      TwoParameters net;
      DataParallel parallel(net, comm);
      pass(net, comm.rank());
      parallel.finish();
      net.weight.requires_grad_(false);  // whose gradient nobody zeroes any more
      net.bias.mutable_grad() = at::Tensor();
      std::optional<AccumulationScope> scope;
      if (accumulates) scope.emplace(parallel.reducer());
      pass(net, comm.rank());
      scope.reset();
      parallel.finish();
      EXPECT_FALSE(net.weight.grad().defined());
      EXPECT_TRUE(at::equal(net.bias.grad(), exact_mean(net.bias, 2)));
    }
  });
}

/// As of two networks in one module that take turns in a step.
TEST(ThawingInMidStep, IsRightWhereTheBucketWasNotSent) {
  for (const auto launch : {Launch::at_finish, Launch::counted}) {
    run_ranks(2, [&](Communicator& comm) {
      TwoParameters net;
      DataParallel parallel(net, comm, {.reducer = {.caps = {.cap_list = {1}}, .launch = launch}});
      for (int i = 0; i < (launch == Launch::counted ? 1 : 3); ++i) {
        parallel.zero_grad();
        net.weight.requires_grad_(false);
        (net.bias * exact_gradient(net.bias, comm.rank())).sum().backward();
        net.weight.requires_grad_(true);
        (net.weight * exact_gradient(net.weight, comm.rank())).sum().backward();
        parallel.finish();
        EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, 2)));
        EXPECT_TRUE(at::equal(net.bias.grad(), exact_mean(net.bias, 2)));
      }
    });
  }
}

TEST(ThawingInMidStep, IsAnErrorWhereTheBucketWasSent) {
  for (const auto& message : errors_of([](Communicator& comm) {
         TwoParameters net;
         DataParallel parallel(net, comm, {.reducer = {.caps = {.cap_list = {1}}}});
         net.weight.requires_grad_(false);
         (net.bias * exact_gradient(net.bias, comm.rank())).sum().backward();
         net.weight.requires_grad_(true);
         (net.weight * exact_gradient(net.weight, comm.rank())).sum().backward();
         parallel.finish();
       })) {
    expect_contains(message, "parameter 'weight' was thawed after its bucket had been sent");
  }
}

/// No rank adds up what the others do not have.
TEST(ThawingInMidStep, IsAnErrorWhereOneRankAloneUsesTheParameter) {
  for (const auto launch : {Launch::at_finish, Launch::counted}) {
    const auto text = error_of<CommError>([&] {
      run_ranks(2, [&](Communicator& comm) {
        TwoParameters net;
        DataParallel parallel(net, comm, {.reducer = {.launch = launch}});
        net.weight.requires_grad_(false);
        (net.bias * exact_gradient(net.bias, comm.rank())).sum().backward();
        net.weight.requires_grad_(true);
        if (comm.rank() == 0) net.weight.sum().backward();
        parallel.finish();
        FAIL() << "one rank's gradient was taken for that of all";
      });
    });
    expect_contains(text, "1 of its parameters frozen (set ");
  }
}

/// Each rank has frozen as many, and others.
TEST(FrozenParameters, ThatDifferOverTheRanksAreAnErrorOnOneLevelAndOnTwo) {
  for (const bool two_levels : {false, true}) {
    for (const auto launch : kLaunches) {
      const auto text = error_of<CommError>([&] {
        run_ranks(two_levels ? 4 : 2, [&](Communicator& comm) {
          TwoParameters net;
          const ProcessGrid grid(comm, two_levels ? 2 : 1);
          DataParallel parallel(
              net, grid,
              {.reducer = {.launch = launch,
                           .levels = two_levels ? GridLevels::two : GridLevels::flat}});
          pass(net, comm.rank());
          parallel.finish();
          parallel.zero_grad();
          // On two levels the ranks of a model differ, which no allreduce across models compares.
          (comm.rank() % 2 ? net.weight : net.bias).requires_grad_(false);
          pass(net, comm.rank());
          parallel.finish();
          FAIL() << "gradients of other parameters were added up";
        });
      });
      expect_contains(text, "1 of its parameters frozen (set ");
      expect_contains(text, two_levels ? "reduce_scatter" : "allreduce");
    }
  }
}

}  // namespace
}  // namespace isobar::frozen_parameters_test
