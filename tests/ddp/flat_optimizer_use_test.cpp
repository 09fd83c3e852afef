// SPDX-License-Identifier: Apache-2.0
// Which reducer a flat optimizer updates, and what may not share memory with its parameters.
#include <isobar/ddp/flat_optimizer.hpp>

#include "core/message_of.hpp"

#include <isobar/ddp/data_parallel.hpp>
#include <isobar/ddp/gradient_norm.hpp>
#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <optional>

#include "ddp/exact.hpp"

#include "comm/expect_error.hpp"

namespace isobar::flat_optimizer_use_test {
namespace {

using namespace test;

constexpr FlatOptimizerOptions kSgd{.rule = UpdateRule::sgd, .weight_decay = 0};

struct Net : torch::nn::Module {
  Net() {
    encoder = register_parameter("encoder", at::ones({4}));
    decoder = register_parameter("decoder", at::ones({4}));
  }
  at::Tensor encoder, decoder;
};

void pass(const Net& net, int rank) {
  (net.encoder * exact_gradient(net.encoder, rank) + net.decoder).sum().backward();
}

TEST(FlatOptimizerUse, InAnotherReducersFinishIsRefused) {
  run_ranks(2, [](Communicator& comm) {
    for (const bool same_shapes : {true, false}) {
      Net net;
      auto weight = leaf({same_shapes ? 8 : 3});
      DataParallel own(net, comm);
      Reducer other({{"weight", weight}}, comm);
      FlatOptimizer optimizer(own.reducer(), kSgd);
      backward(weight, comm.rank());
      const auto said = message_of<UsageError>([&] { other.finish(optimizer.on_bucket(0.5)); });
      expect_contains(said, "on_bucket was given to finish() of another reducer than its own");
      EXPECT_TRUE(at::equal(net.encoder, at::ones({4})));
      pass(net, comm.rank());
      own.finish(optimizer.on_bucket(0.5));
      EXPECT_TRUE(at::equal(net.encoder, 1 - exact_mean(net.encoder, 2) / 2));
    }
  });
}

TEST(FlatOptimizerUse, OfAnEarlierWrapperIsRefusedAndItsStateGoesOver) {
  for (const bool destroyed : {false, true}) {
    run_ranks(2, [&](Communicator& comm) {
      Net net;
      auto earlier = std::make_unique<DataParallel>(net, comm);
      FlatOptimizer optimizer(earlier->reducer());
      const auto update = optimizer.on_bucket(0.5);
      pass(net, comm.rank());
      earlier->finish(update);
      if (destroyed) earlier.reset();
      DataParallel later(net, comm);

      later.zero_grad();
      pass(net, comm.rank());
      for (const auto& act : std::initializer_list<std::function<void()>>{
               [&] { later.finish(update); }, [&] { optimizer.step(0.5); },
               [&] { optimizer.load({}); }}) {
        const auto said = message_of<UsageError>(act);
        expect_contains(said, destroyed ? " was destroyed" : "its module was wrapped again");
        expect_contains(said, "load() the state()");
      }
      FlatOptimizer next(later.reducer());
      next.load(optimizer.state());
      EXPECT_EQ(next.state().size(), 2U);
      EXPECT_EQ(next.state().front().step, 1);
      if (!destroyed) {
        EXPECT_THROW(FlatOptimizer{earlier->reducer()}, UsageError);
      }
    });
  }
}

TEST(FlatOptimizerUse, MayEndBeforeItsCallbackDoes) {
  const auto comm = make_self_communicator();
  Net net;
  DataParallel parallel(net, *comm);
  BucketCallback update;
  {
    FlatOptimizer optimizer(parallel.reducer(), kSgd);
    update = optimizer.on_bucket(0.5);
  }
  pass(net, 1);
  parallel.finish(update);
  EXPECT_TRUE(at::equal(net.encoder, 1 - exact_gradient(net.encoder, 1) / 2));
}

TEST(FlatOptimizerUse, BeforeFinishIsRefusedWhetherAnythingWasSentOrNot) {
  const auto comm = make_self_communicator();
  for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
    for (const bool uses_all : {true, false}) {
      Net net;
      DataParallel parallel(net, *comm, {.reducer = {.launch = launch}});
      FlatOptimizer optimizer(parallel.reducer(), kSgd);
      if (uses_all) {
        pass(net, 1);
      } else {
        (net.encoder * exact_gradient(net.encoder, 1)).sum().backward();
      }
      expect_contains(message_of<UsageError>([&] { optimizer.step(0.5); }), "call finish() first");
      EXPECT_TRUE(at::equal(net.encoder, at::ones({4})));
      parallel.finish();
      optimizer.step(0.5);
      EXPECT_TRUE(at::equal(net.encoder, 1 - exact_gradient(net.encoder, 1) / 2));
    }
  }
}

TEST(FlatOptimizerUse, TakesGradientsThatWerePutElsewhereAfterFinish) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm);
    FlatOptimizer optimizer(parallel.reducer(), kSgd);
    pass(net, comm.rank());
    parallel.finish();
    net.encoder.mutable_grad() = net.encoder.grad() * 2;
    optimizer.step(0.5);
    EXPECT_TRUE(at::equal(net.encoder, 1 - exact_mean(net.encoder, 2)));
    EXPECT_TRUE(at::equal(net.decoder, at::full({4}, 0.5)));
  });
}

TEST(FlatOptimizerUse, IsTheSameInInferenceMode) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm);
    std::optional<FlatOptimizer> optimizer;
    {
      const c10::InferenceMode mode;
      optimizer.emplace(parallel.reducer(), kSgd);
    }
    auto expected = at::ones({4});
    for (int i = 0; i < 4; ++i) {
      parallel.zero_grad();
      pass(net, comm.rank());
      const c10::InferenceMode mode;
      if (i % 2) {
        parallel.finish(optimizer->on_bucket(0.5));
      } else {
        parallel.finish();
        optimizer->step(0.5);
      }
      expected = expected - exact_mean(expected, 2) / 2;
      EXPECT_TRUE(at::equal(net.encoder, expected));
    }
  });
}

/// Ties `decoder` to what `encoder` lies in, at an offset.
void tie(Net& net, int64_t offset) {
  auto flat = at::ones({8});
  net.encoder.set_data(flat.narrow(0, 0, 4));
  net.decoder.set_data(flat.narrow(0, offset, 4));
}

TEST(TiedMemory, IsRefusedByName) {
  const auto comm = make_self_communicator();
  for (const bool frozen : {false, true}) {
    for (const int64_t offset : {0, 2}) {
      Net net;
      tie(net, offset);
      net.decoder.requires_grad_(!frozen);
      DataParallel parallel(net, *comm);
      const auto said =
          message_of<UsageError>([&] { FlatOptimizer optimizer(parallel.reducer()); });
      expect_contains(said, "shares memory with '");
      expect_contains(said, "encoder");
      expect_contains(said, "decoder");
    }
  }
}

TEST(TiedMemory, OfABufferIsRefusedByName) {
  const auto comm = make_self_communicator();
  Net net;
  net.register_buffer("view", net.encoder.data());
  DataParallel parallel(net, *comm);
  expect_contains(message_of<UsageError>([&] { FlatOptimizer optimizer(parallel.reducer()); }),
                  "parameter 'encoder' shares memory with 'view'");
}

TEST(TiedMemory, IsNoticedWhereItCameAfterTheOptimizer) {
  run_ranks(2, [](Communicator& comm) {
    Net net;
    DataParallel parallel(net, comm);
    FlatOptimizer optimizer(parallel.reducer());
    for (int i = 0; i < 2; ++i) {
      parallel.zero_grad();
      if (i == 1) net.decoder.set_data(net.encoder.data());
      pass(net, comm.rank());
      const auto said = message_of<UsageError>([&] { parallel.finish(optimizer.on_bucket(0.5)); });
      expect_contains(said, i == 0 ? "nothing thrown" : "shares memory with '");
    }
  });
}

TEST(TiedMemory, IsNoneWhereParametersLieSideBySide) {
  const auto comm = make_self_communicator();
  Net net;
  tie(net, 4);
  DataParallel parallel(net, *comm);
  FlatOptimizer optimizer(parallel.reducer(), kSgd);
  pass(net, 1);
  parallel.finish(optimizer.on_bucket(0.5));
  EXPECT_TRUE(at::equal(net.decoder, at::full({4}, 0.5)));
}

}  // namespace
}  // namespace isobar::flat_optimizer_use_test
