// SPDX-License-Identifier: Apache-2.0
// What users do to a module after they have wrapped it.
#include <isobar/ddp/data_parallel.hpp>

#include "core/message_of.hpp"

#include <isobar/ddp/flat_optimizer.hpp>
#include <torch/nn/module.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>
#include <torch/serialize.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <mutex>
#include <optional>

#include "core/temporary_folder.hpp"
#include "ddp/exact.hpp"

#include "comm/expect_error.hpp"
#include "comm/signal_flag.hpp"

namespace isobar::module_changes_test {
namespace {

using namespace test;

struct Layer : torch::nn::Module {
  explicit Layer(int64_t size) {
    weight = register_parameter("weight", at::linspace(-1, 2, size, at::kDouble));
  }
  at::Tensor weight;
};

struct Net : torch::nn::Module {
  Net() {
    backbone = register_module("backbone", std::make_shared<Layer>(3));
    head = register_module("head", std::make_shared<Layer>(3));
  }
  at::Tensor forward(const at::Tensor& x) const {
    return ((x * backbone->weight).tanh() * head->weight).sum();
  }
  std::shared_ptr<Layer> backbone, head;
};

at::Tensor input(int rank, int step) {
  return at::arange(3, at::kDouble) / (rank + 2) + 0.3 * step;
}

void step(DataParallel& parallel, const Net& net, int rank, int number = 0) {
  parallel.zero_grad();
  net.forward(input(rank, number)).backward();
  parallel.finish();
}

/// What finish() says after `change`, with which a step has gone well before.
std::vector<std::string> errors_after(const std::function<void(Net&)>& change) {
  return errors_of([&](Communicator& comm) {
    Net net;
    net.backbone->weight.requires_grad_(false);
    DataParallel parallel(net, comm);
    step(parallel, net, comm.rank());
    change(net);
    step(parallel, net, comm.rank());
  });
}

TEST(ModuleChanges, AreNamedOnEveryRank) {
  const std::vector<std::pair<std::function<void(Net&)>, std::string>> changes{
      {[](Net& net) { net.backbone->weight.requires_grad_(true); },
       "parameter 'backbone.weight' was unfrozen"},
      {[](Net& net) {
         net.head = std::make_shared<Layer>(3);
         net.replace_module("head", net.head);
       },
       "parameter 'head.weight' was replaced"},
      {[](Net& net) { net.register_module("more", std::make_shared<Layer>(2)); },
       "parameter 'more.weight' was added"},
      {[](Net& net) { net.head->register_parameter("bias", at::zeros({1}), false); },
       "parameter 'head.bias' was added"},
      {[](Net& net) { net.unregister_module("head"); }, "parameter 'head.weight' was taken out"}};
  for (const auto& [change, expected] : changes) {
    for (const auto& message : errors_after(change)) {
      expect_contains(message, expected);
      expect_contains(message, "wrap the module again");
    }
  }
}

TEST(ModuleChanges, OnOneRankLeaveTheOthersInStep) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    net.backbone->weight.requires_grad_(false);
    DataParallel parallel(net, comm);
    for (int i = 0; i < 3; ++i) {
      net.backbone->weight.requires_grad_(i == 1 && comm.rank() == 1);
      if (i == 1 && comm.rank() == 1) {
        EXPECT_THROW(step(parallel, net, comm.rank()), UsageError);
      } else {
        step(parallel, net, comm.rank());
      }
    }
  });
}

TEST(ModuleChanges, AndGradientsWrittenToOnOneRankLeaveTheOthersInStep) {
  SignalFlag has_meddled;  // before the other rank's gradients come, which would be written there
  run_ranks(2, [&](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm, {.buffers = {.action = BufferAction::broadcast}});
    for (int i = 0; i < 4; ++i) {
      parallel.zero_grad();
      const bool meddles = i == 1 && comm.rank() == 1;
      if (i == 1 && !meddles) has_meddled.await();
      net.forward(input(comm.rank(), i)).backward();
      if (meddles) net.head->weight.grad().mul_(2);
      if (meddles) has_meddled.raise();
      EXPECT_EQ(message_of<UsageError>([&] { parallel.finish(); }) != "nothing thrown", meddles);
    }
  });
}

/// What rank 0 alone does to a parameter, before the first step and after it.
TEST(ModuleChanges, ThatSpoilAParameterOnOneRankLeaveTheOthersInStep) {
  const std::vector<std::pair<at::Tensor, std::string>> changes{
      {at::ones({4}, at::kDouble), "parameter 'head.weight' was given the shape [4]"},
      {at::ones({3}, at::kFloat), "parameter 'head.weight' was moved, retyped or loaded"}};
  for (const auto& [data, expected] : changes) {
    for (const auto launch : {Launch::first_gradient, Launch::counted}) {
      for (const int changed : {0, 1, 2}) {
        const auto values = data;
        const auto text = expected;
        run_ranks(2, [&](Communicator& comm) {
          Net net;
          DataParallel parallel(net, comm,
                                {.reducer = {.launch = launch}, .compare_parameters_every = 0});
          for (int i = 0; i < changed + 3; ++i) {
            const bool is_spoilt = comm.rank() == 0 && i >= changed;
            if (is_spoilt && i == changed) net.head->weight.set_data(values.clone());
            const auto said = message_of<UsageError>([&] {
              parallel.zero_grad();
              auto loss = net.backbone->weight.sum();
              // Where it has another shape LibTorch has no gradient for it.
              if (net.head->weight.numel() == 3) loss = loss + net.head->weight.sum();
              loss.backward();
              parallel.finish();
            });
            expect_contains(said, is_spoilt ? text : "nothing thrown");
            EXPECT_TRUE(at::equal(net.backbone->weight.grad(), at::ones({3}, at::kDouble)));
          }
          if (comm.rank() == 0) net.head->weight.set_data(at::ones({3}, at::kDouble));
          DataParallel again(net, comm);
          step(again, net, comm.rank());
        });
      }
    }
  }
}

TEST(ModuleChanges, ThatCannotBeWrappedLeaveTheEarlierWrapperInPlace) {
  run_ranks(2, [](Communicator& comm) {
    Net net, reference;
    for (int rank = 0; rank < 2; ++rank) (reference.forward(input(rank, 0)) / 2).backward();
    DataParallel earlier(net, comm);
    EXPECT_THROW(DataParallel(net, comm, {.reducer = {.caps = {.cap_bytes = -1}}}), UsageError);
    EXPECT_THROW(DataParallel(net, comm, {.compare_parameters_every = -1}), UsageError);
    for (int i = 0; i < 2; ++i) {
      step(earlier, net, comm.rank());
      EXPECT_TRUE(at::allclose(net.head->weight.grad(), reference.head->weight.grad()));
    }
  });
}

TEST(ModuleChanges, AreTakenInByWrappingAgain) {
  // By assignment, when the new wrapper is made before the old one goes, and one after the other.
  for (const bool assign : {true, false}) {
    run_ranks(2, [&](Communicator& comm) {
      Net net, reference;
      net.backbone->weight.requires_grad_(false);
      auto parallel = std::make_unique<DataParallel>(net, comm);
      step(*parallel, net, comm.rank());
      net.backbone->weight.requires_grad_(true);
      net.head = std::make_shared<Layer>(3);
      net.replace_module("head", net.head);
      if (!assign) parallel.reset();
      parallel = std::make_unique<DataParallel>(net, comm);
      step(*parallel, net, comm.rank());
      for (int rank = 0; rank < 2; ++rank) (reference.forward(input(rank, 0)) / 2).backward();
      EXPECT_TRUE(at::allclose(net.backbone->weight.grad(), reference.backbone->weight.grad()));
      EXPECT_TRUE(at::allclose(net.head->weight.grad(), reference.head->weight.grad()));
    });
  }
}

TEST(ModuleChanges, LeaveTheEarlierWrapperUnusable) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Net net;
         DataParallel earlier(net, comm);
         DataParallel later(net, comm);
         step(later, net, comm.rank());
         earlier.finish();
       })) {
    expect_contains(message, "wrapped anew; use the later wrapper");
  }
}

TEST(ModuleChanges, OneEncoderInTwoWrappersIsRefusedByName) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Net actor, critic;
         critic.backbone = actor.backbone;
         critic.replace_module("backbone", critic.backbone);
         DataParallel first(actor, comm);
         DataParallel second(critic, comm);
       })) {
    expect_contains(message, "parameter 'backbone.weight' is already reduced by");
    expect_contains(message, "Net'");
  }
  for (const auto& message : errors_of([](Communicator& comm) {
         auto weight = leaf({2});
         Reducer first({{"weight", weight}}, comm);
         Reducer second({{"weight", weight}}, comm);
       })) {
    expect_contains(message, "parameter 'weight' is already reduced by reducer ");
  }
}

TEST(ModuleChanges, BySomethingLoadedAreToldAboutLoading) {
  const TemporaryFolder folder;
  const auto path = (folder.path() / "net.pt").string();
  auto saved = std::make_shared<Net>();
  {
    at::NoGradGuard no_grad;
    saved->head->weight.fill_(5);
  }
  torch::save(saved, path);
  std::mutex one_at_a_time;  // LibTorch's reader is not instrumented: the thread sanitizer would
                             // see a race in it
  run_ranks(2, [&](Communicator& comm) {
    auto net = std::make_shared<Net>();
    DataParallel parallel(*net, comm);
    step(parallel, *net, comm.rank());
    {
      const std::lock_guard lock(one_at_a_time);
      torch::load(net, path);
    }
    expect_contains(message_of<UsageError>([&] { step(parallel, *net, comm.rank()); }),
                    "wrap the module after module.to(...) and torch::load()");
    // Wrapped anew it trains on from what was loaded.
    DataParallel again(*net, comm);
    step(again, *net, comm.rank());
  });
}

enum class Rule { sgd, adamw };

std::unique_ptr<torch::optim::Optimizer> optimizer_for(const Net& net, Rule rule) {
  const auto parameters = net.parameters();
  if (rule == Rule::adamw) {
    return std::make_unique<torch::optim::AdamW>(parameters, torch::optim::AdamWOptions(0.1));
  }
  return std::make_unique<torch::optim::SGD>(
      parameters, torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.01));
}

/// Backbone and head, frozen in steps 2 and 3 of 6, in turn.
void freeze_for(const Net& net, int number) {
  net.backbone->weight.requires_grad_(number != 2 && number != 3);
  net.head->weight.requires_grad_(number != 3);
}

/// LibTorch by itself, on the samples of all ranks.
Net trained_alone(Rule rule, int ranks) {
  Net net;
  const auto optimizer = optimizer_for(net, rule);
  for (int i = 0; i < 6; ++i) {
    freeze_for(net, i);
    optimizer->zero_grad();
    for (int rank = 0; rank < ranks && i != 3; ++rank) {
      (net.forward(input(rank, i)) / ranks).backward();
    }
    optimizer->step();
  }
  return net;
}

struct FreezeCase {
  Rule rule;
  bool flat;
  Launch launch;
};

class FrozenInMidRun : public testing::TestWithParam<FreezeCase> {};
INSTANTIATE_TEST_SUITE_P(Optimizers, FrozenInMidRun,
                         testing::Values(FreezeCase{Rule::sgd, false, Launch::first_gradient},
                                         FreezeCase{Rule::sgd, true, Launch::first_gradient},
                                         FreezeCase{Rule::adamw, false, Launch::at_finish},
                                         FreezeCase{Rule::adamw, true, Launch::first_gradient},
                                         FreezeCase{Rule::sgd, true, Launch::counted}));

TEST_P(FrozenInMidRun, StaysWhereItIsAsInLibTorchAndMovesOnceItIsThawed) {
  for (const int ranks : {1, 2}) {
    const auto expected = trained_alone(GetParam().rule, ranks);
    run_ranks(ranks, [&](Communicator& comm) {
      Net net;
      DataParallel parallel(net, comm,
                            {.reducer = {.caps = {.cap_list = {1}}, .launch = GetParam().launch}});
      const auto plain = optimizer_for(net, GetParam().rule);
      std::optional<FlatOptimizer> flat;
      if (GetParam().flat) {
        const bool sgd = GetParam().rule == Rule::sgd;
        flat.emplace(parallel.reducer(),
                     FlatOptimizerOptions{.rule = sgd ? UpdateRule::sgd : UpdateRule::adamw,
                                          .momentum = 0.9,
                                          .weight_decay = 0.01});
      }
      for (int i = 0; i < 6; ++i) {
        freeze_for(net, i);
        parallel.zero_grad();
        const auto before = net.backbone->weight.detach().clone();
        if (i != 3) net.forward(input(comm.rank(), i)).backward();  // nothing to train in step 3
        if (flat) {
          parallel.finish(flat->on_bucket(0.1));
        } else {
          parallel.finish();
          plain->step();
        }
        EXPECT_EQ(at::equal(net.backbone->weight, before), i == 2 || i == 3) << i;
        EXPECT_EQ(net.backbone->weight.grad().defined(), net.backbone->weight.requires_grad());
      }
      EXPECT_TRUE(at::allclose(net.backbone->weight, expected.backbone->weight, 1e-12, 1e-13));
      EXPECT_TRUE(at::allclose(net.head->weight, expected.head->weight, 1e-12, 1e-13));
    });
  }
}

TEST(FrozenParameters, HoldNoBucketBack) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm, {.reducer = {.caps = {.cap_list = {1}}}});
    for (int i = 0; i < 3; ++i) {
      if (i == 2) net.head->weight.requires_grad_(false);  // whose bucket leaves first
      step(parallel, net, comm.rank());
    }
    EXPECT_EQ(parallel.reducer().counters().launched_in_backward, 6);
  });
}

TEST(FrozenParameters, OnOneRankAloneAreAnErrorAtOnce) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      Net net;
      DataParallel parallel(net, comm, {.reducer = {.caps = {.cap_list = {1}}}});
      step(parallel, net, comm.rank());
      net.head->weight.requires_grad_(comm.rank() == 0);
      step(parallel, net, comm.rank());
    });
  });
  expect_contains(text, "1 of its parameters frozen");
}

TEST(FrozenParameters, AreCountedInTheFirstStepInWhichTheyAreThawed) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm,
                          {.reducer = {.caps = {.cap_list = {1}}, .launch = Launch::counted}});
    for (int i = 0; i < 4; ++i) {
      net.backbone->weight.requires_grad_(i > 0);
      step(parallel, net, comm.rank());
    }
    EXPECT_EQ(parallel.reducer().counters().launched_in_backward, 1 + 2 + 2);
    EXPECT_EQ(parallel.reducer().counters().deviations, 0);
  });
}

TEST(FrozenParameters, MayBeFrozenBetweenForwardAndBackward) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm, {.reducer = {.caps = {.cap_list = {1}}}});
    for (int i = 0; i < 3; ++i) {
      parallel.zero_grad();
      const auto loss = net.forward(input(comm.rank(), i));
      if (i == 1) net.head->weight.requires_grad_(false);
      loss.backward();
      parallel.finish();
      net.head->weight.requires_grad_(true);
      EXPECT_EQ(net.head->weight.grad().defined(), i != 1);
    }
  });
}

/// Averaged weights, which a run evaluates and puts back.
TEST(FlatOptimizerWeights, MayBeSwappedBySetDataAndAreTrainedOn) {
  run_ranks(2, [](Communicator& comm) {
    Net net, twin;
    DataParallel parallel(net, comm);
    FlatOptimizer optimizer(parallel.reducer(), {.rule = UpdateRule::sgd, .momentum = 0.9});
    torch::optim::SGD plain(twin.parameters(),
                            torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.01));
    for (int i = 0; i < 6; ++i) {
      parallel.zero_grad();
      plain.zero_grad();
      net.forward(input(comm.rank(), i)).backward();
      for (int rank = 0; rank < 2; ++rank) (twin.forward(input(rank, i)) / 2).backward();
      if (i == 4) {  // swapped in before an update, which then goes on from there
        for (const auto* n : {&net, &twin}) {
          n->head->weight.set_data(at::full({3}, 0.25, at::kDouble));
        }
      }
      parallel.finish(optimizer.on_bucket(0.1));
      plain.step();
      const auto own = net.head->weight.data();  // evaluate with others, and back
      net.head->weight.set_data(at::full({3}, 7.0, at::kDouble));
      net.head->weight.set_data(own);
      EXPECT_TRUE(at::allclose(net.head->weight, twin.head->weight, 1e-12, 1e-13)) << i;
      EXPECT_TRUE(at::allclose(net.backbone->weight, twin.backbone->weight, 1e-12, 1e-13)) << i;
    }
  });
}

TEST(FlatOptimizerWeights, LeaveAloneWhatWasSavedOfThem) {
  const auto comm = make_self_communicator();
  Net net;
  DataParallel parallel(net, *comm);
  FlatOptimizer optimizer(parallel.reducer());
  const auto saved = net.head->weight.data();
  const auto values = saved.clone();
  net.head->weight.set_data(at::zeros({3}, at::kDouble));
  for (int i = 0; i < 2; ++i) {
    parallel.zero_grad();
    net.forward(input(0, i)).backward();
    parallel.finish(optimizer.on_bucket(0.1));
  }
  EXPECT_TRUE(at::equal(saved, values));
  EXPECT_FALSE(at::equal(net.head->weight, at::zeros({3}, at::kDouble)));
}

TEST(FlatOptimizerWeights, OfAnotherShapeAreRefusedByName) {
  const auto comm = make_self_communicator();
  Net net;
  DataParallel parallel(net, *comm);
  net.head->weight.set_data(at::zeros({4}, at::kDouble));
  expect_contains(message_of<UsageError>([&] { parallel.finish(); }),
                  "parameter 'head.weight' was given the shape [4]");
}

/// What must go on working, however little there is to do.
TEST(WrappedModules, MayHaveNothingToTrain) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    for (const auto& tensor : net.parameters()) tensor.requires_grad_(false);
    torch::nn::Module empty;
    DataParallel frozen(net, comm), nothing(empty, comm);
    for (int i = 0; i < 3; ++i) {
      for (auto* parallel : {&frozen, &nothing}) {
        parallel->zero_grad();
        parallel->finish();
      }
    }
  });
}

/// As a normalisation without affine parameters and running statistics registers them.
TEST(WrappedModules, MayHaveUndefinedParametersAndBuffers) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    net.register_parameter("scale", at::Tensor(), false);
    net.register_buffer("running_mean", at::Tensor());
    DataParallel parallel(net, comm, {.buffers = {.action = BufferAction::compare}});
    for (int i = 0; i < 3; ++i) step(parallel, net, comm.rank(), i);
  });
}

/// Which no rank 0 has to copy to others.
TEST(WrappedModules, MayHoldWhatCannotBeCopiedWhereThereIsOneRank) {
  const auto comm = make_self_communicator();
  Net net;
  net.register_buffer("scale", at::quantize_per_tensor(at::ones({4}), 0.5, 0, at::kQInt8));
  net.register_buffer("shape", at::empty({2}, at::kMeta));
  for (const auto action : {BufferAction::none, BufferAction::broadcast, BufferAction::compare}) {
    DataParallel parallel(net, *comm, {.buffers = {.action = action}});
    for (int i = 0; i < 3; ++i) step(parallel, net, 0, i);
  }
}

TEST(WrappedModules, TakeAnEmptyBatchOrNoneAtAll) {
  run_ranks(2, [](Communicator& comm) {
    Net net, reference;
    DataParallel parallel(net, comm);
    (reference.forward(input(0, 0)) / 2).backward();
    for (const bool skips : {false, true}) {
      parallel.zero_grad();
      const auto x = comm.rank() == 0 ? input(0, 0).view({1, 3}) : at::empty({0, 3}, at::kDouble);
      if (comm.rank() == 0 || !skips) net.forward(x).backward();
      parallel.finish();
      EXPECT_TRUE(at::allclose(net.head->weight.grad(), reference.head->weight.grad()));
    }
  });
}

/// A generator that is trained through a discriminator, which is frozen meanwhile or accumulates.
TEST(WrappedModules, MayBeTheTwoOfAGan) {
  for (const bool freezes : {false, true}) {
    run_ranks(2, [&](Communicator& comm) {
      Net generator, discriminator;
      DataParallel g(generator, comm), d(discriminator, comm);
      const auto judged = [&](const at::Tensor& x) {
        return discriminator.forward(generator.forward(x) * x);
      };
      for (int i = 0; i < 3; ++i) {
        d.zero_grad();
        discriminator.forward(generator.forward(input(comm.rank(), i)).detach() * 2).backward();
        d.finish();
        g.zero_grad();
        if (freezes) {
          for (const auto& t : discriminator.parameters()) t.requires_grad_(false);
          judged(input(comm.rank(), i)).backward();
          for (const auto& t : discriminator.parameters()) t.requires_grad_(true);
        } else {
          const auto scope = d.accumulate();
          judged(input(comm.rank(), i)).backward();
        }
        g.finish();
        EXPECT_TRUE(generator.head->weight.grad().defined());
        EXPECT_TRUE(discriminator.head->weight.grad().defined());
      }
    });
  }
}

TEST(WrappedModules, SayWhichRankLeftWithAnException) {
  const auto text = error_of<std::runtime_error>([] {
    run_ranks(2, [](Communicator& comm) {
      Net net;
      DataParallel parallel(net, comm);
      for (int i = 0; i < 3; ++i) {
        if (comm.rank() == 1 && i == 1) throw DataError("a bad file");
        step(parallel, net, comm.rank(), i);
      }
    });
  });
  EXPECT_EQ(text, "a bad file");
}

/// Entries of a folder of /proc/self.
int64_t entries(const char* folder) {
  int64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

TEST(WrappedModules, LeaveNoThreadsOrDescriptorsBehind) {
  const auto wrap = [] {
    run_ranks(2, [](Communicator& comm) {
      for (int i = 0; i < 10; ++i) {
        Net net;
        const auto part = comm.split(0, comm.rank());
        ProcessGrid grid(*part, 1);
        DataParallel parallel(net, grid);
        step(parallel, net, comm.rank());
      }
    });
  };
  wrap();
  const auto threads = entries("/proc/self/task"), descriptors = entries("/proc/self/fd");
  wrap();
  EXPECT_LE(entries("/proc/self/task"), threads);
  EXPECT_LE(entries("/proc/self/fd"), descriptors);
}

}  // namespace
}  // namespace isobar::module_changes_test
