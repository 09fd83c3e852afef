// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/data_parallel.hpp>

#include "comm/signal_flag.hpp"
#include "core/message_of.hpp"

#include <isobar/ddp/flat_optimizer.hpp>
#include <torch/nn/module.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

#include "ddp/bit_comparison.hpp"
#include "ddp/exact.hpp"

#include "comm/expect_error.hpp"
#include "comm/most_bytes.hpp"

namespace isobar::parameter_check_test {
namespace {

using namespace test;

struct Pair : torch::nn::Module {
  at::Tensor weight = register_parameter("weight", at::ones({3}, at::kDouble));
  at::Tensor frozen = register_parameter("frozen", at::ones({2}), /*requires_grad=*/false);
};

void step(DataParallel& parallel, const Pair& module) {
  parallel.zero_grad();
  module.weight.sum().backward();
  parallel.finish();
}

/// The first step whose finish() reports that rank 1 changed a value before step `changed`; 0
/// where none of twelve does.
int64_t reported(int64_t every, int64_t changed) {
  int64_t found = 0;
  run_ranks(2, [&](Communicator& comm) {
    Pair module;
    DataParallel parallel(module, comm, {.compare_parameters_every = every});
    for (int64_t i = 1; i <= 12; ++i) {
      if (i == changed && comm.rank() == 1) module.weight.data()[1] = 1 + 1e-15;
      const auto text = message_of<UsageError>([&] { step(parallel, module); });
      if (text == "nothing thrown") continue;
      expect_contains(text, "step " + std::to_string(i) +
                                ": parameter 'weight' of rank 1 of 2 "
                                "differs from that of rank 0");
      if (comm.rank() == 0) found = i;
      return;
    }
  });
  return found;
}

TEST(ParameterCheck, ComparesAtPowersOfTwoAndThenEveryKthStep) {
  EXPECT_EQ(reported(100, 1), 1);
  EXPECT_EQ(reported(100, 3), 4);
  EXPECT_EQ(reported(100, 5), 8);
  EXPECT_EQ(reported(100, 9), 0);
  EXPECT_EQ(reported(3, 3), 3);
  EXPECT_EQ(reported(3, 7), 9);
  EXPECT_EQ(reported(1, 7), 7);
  EXPECT_EQ(reported(0, 1), 0);
}

TEST(ParameterCheck, SeesFrozenParametersAndEveryRank) {
  run_ranks(3, [](Communicator& comm) {
    Pair module;
    DataParallel parallel(module, comm);
    module.frozen.data()[0] += comm.rank();
    expect_contains(message_of<UsageError>([&] { step(parallel, module); }),
                    "parameter 'frozen' of ranks 1, 2 of 3 differs from that of rank 0");
  });
}

TEST(ParameterCheck, ComparesShardsInTheirDataParallelGroupAndTellsTheWorld) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    Pair module;
    {
      at::NoGradGuard no_grad;
      module.weight.fill_(comm.rank() % 2);  // a shard: may differ inside a model
    }
    DataParallel parallel(module, grid, {.reduction = [](const std::string& name) {
                            return name == "weight" ? Reduction::sharded : Reduction::replicated;
                          }});
    step(parallel, module);
    if (comm.rank() == 3) module.weight.data()[0] = 7;
    expect_contains(message_of<UsageError>([&] { step(parallel, module); }),
                    "step 2: parameter 'weight' of rank 3 of 4 differs from that of rank 1");
  });
}

TEST(ParameterCheck, GathersNoHashesButThoseOfTheParameterThatItNames) {
  constexpr int64_t kParameters = 1000;
  const auto bytes = most_bytes(8, [&](Communicator& world) {
    std::vector<NamedHash> hashes(kParameters, {"same", -7});
    for (const size_t place : {700, 800}) {
      hashes[place] = {"parameter " + std::to_string(place), world.rank() == 5 ? -3 : 4};
    }
    const auto text = message_of<UsageError>([&] {
      require_same_hashes(world, world, hashes, [](const auto& name, const auto& difference) {
        return name + " of " + difference;
      });
    });
    EXPECT_EQ(text, "parameter 700 of rank 5 of 8 differs from that of rank 0");
  });
  EXPECT_LT(bytes, 20 * kParameters);
}

TEST(ParameterCheck, SendsAsLittleBetweenManyRanksAsBetweenFewWhereAllAreEqual) {
  for (const int ranks : {2, 8}) {
    const auto bytes = most_bytes(ranks, [](Communicator& world) {
      require_same_hashes(world, world, {{"a", 1}, {"b", 2}},
                          [](const auto& name, const auto&) { return name; });
    });
    EXPECT_EQ(bytes, 16 + 8) << ranks;
  }
}

TEST(ParameterCheck, IsRefusedOnEveryRankWhereItIsNegativeOrDiffers) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Pair module;
         DataParallel parallel(module, comm, {.compare_parameters_every = -comm.rank()});
       })) {
    expect_contains(message, "compare_parameters_every must not be negative, got -1");
  }
  for (const auto& message : errors_of([](Communicator& comm) {
         Pair module;
         DataParallel parallel(module, comm, {.compare_parameters_every = comm.rank()});
       })) {
    expect_contains(message, "compare_parameters_every=1");
  }
}

TEST(ParameterCheck, BlamesTheFewAndListsNoMoreThanEightRanks) {
  const auto difference = [](int ranks, const std::function<double(int)>& value) {
    return errors_of(
        [&](Communicator& comm) {
          Pair module;
          DataParallel parallel(module, comm);
          module.frozen.data()[0] = value(comm.rank());
          step(parallel, module);
        },
        ranks);
  };
  for (const auto& message : difference(3, [](int rank) { return rank == 0 ? 5.0 : 1.0; })) {
    expect_contains(message, "parameter 'frozen' of rank 0 of 3 differs from that of rank 1;");
  }
  for (const auto& message : difference(12, [](int rank) { return rank; })) {
    expect_contains(message, "of ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more of 12 differs from that");
  }
}

/// What rank 1 does so that its finish() throws and it alone leaves the update out.
struct Mistake {
  std::function<void(Pair&)> act;
  bool throws_in_callback;
  std::string expected;
};

TEST(ParameterCheck, NamesTheErrorForWhichARankWasNotUpdated) {
  const std::vector<Mistake> mistakes{
      {[](Pair& module) { module.weight.grad().mul_(2); }, false, "'weight' was written to"},
      {[](Pair& module) { module.frozen.requires_grad_(true); }, false, "'frozen' was unfrozen"},
      {[](Pair&) {}, true, "no room for the update"}};
  for (const auto& mistake : mistakes) {
    SignalFlag has_acted;  // before the other rank's gradients come, which would be written there
    const auto messages = errors_of([&](Communicator& comm) {
      Pair module;
      DataParallel parallel(module, comm);
      FlatOptimizer optimizer(parallel.reducer());
      parallel.zero_grad();
      if (comm.rank() == 0) has_acted.await();
      module.weight.sum().backward();
      if (comm.rank() == 1) mistake.act(module);
      if (comm.rank() == 1) has_acted.raise();
      const auto update = optimizer.on_bucket(0.1);
      parallel.finish([&](const ReducedBucket& bucket) {
        if (comm.rank() == 1 && mistake.throws_in_callback) {
          throw UsageError("no room for the update");
        }
        update(bucket);
      });
    });
    for (const auto& message : messages) expect_contains(message, mistake.expected);
    expect_contains(messages[0], "rank 1 of 2: ");
  }
}

/// A rank with a learning rate of its own, and one that steps by its own loss.
TEST(ParameterCheck, FindsRanksThatUpdateDifferently) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Pair module;
         DataParallel parallel(module, comm);
         torch::optim::SGD optimizer({module.weight}, torch::optim::SGDOptions(0.1 + comm.rank()));
         for (int i = 0; i < 2; ++i) {
           step(parallel, module);
           optimizer.step();
         }
       })) {
    expect_contains(message, "step 2: parameter 'weight' of rank 1 of 2 differs");
  }
}

TEST(ParameterCheck, FindsAnLbfgsThatGoesByItsRanksOwnLoss) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Pair module;
         DataParallel parallel(module, comm);
         torch::optim::LBFGS optimizer(
             {module.weight}, torch::optim::LBFGSOptions(1).line_search_fn("strong_wolfe"));
         optimizer.step([&] {
           parallel.zero_grad();
           const auto x = module.weight - at::arange(3) * (comm.rank() + 1);
           const auto loss = (x.pow(4) + x.pow(2)).sum();
           loss.backward();
           parallel.finish();
           return loss;
         });
       })) {
    expect_contains(message, "parameter 'weight' of rank 1 of 2 differs");
  }
}

}  // namespace
}  // namespace isobar::parameter_check_test
