// SPDX-License-Identifier: Apache-2.0
// Gradients that users make or keep themselves: with a graph, or in memory of their own.
#include <isobar/ddp/reducer.hpp>

#include "core/message_of.hpp"

#include <isobar/ddp/flat_optimizer.hpp>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/utils/clip_grad.h>
#include <gtest/gtest.h>

#include "ddp/exact.hpp"
#include "ddp/two_parameters.hpp"

#include "comm/expect_error.hpp"

namespace isobar::own_gradients_test {
namespace {

using namespace test;

/// A pass whose gradient has a graph, and is twice the exact one.
void pass_with_graph(const at::Tensor& weight, int rank) {
  const auto loss = (weight * weight * exact_gradient(weight, rank)).sum();
  loss.backward({}, /*retain_graph=*/true, /*create_graph=*/true);
}

TEST(GradientsWithAGraph, MayBeDetachedBeforeFinish) {
  const std::function<void(const at::Tensor&)> ways[] = {
      [](const at::Tensor& w) { w.mutable_grad() = w.grad().detach(); },
      [](const at::Tensor& w) { w.mutable_grad().detach_(); },
      [](const at::Tensor& w) { w.mutable_grad() = w.grad().data(); },
      [](const at::Tensor& w) { w.mutable_grad() = w.grad().detach().clone(); },
      [](const at::Tensor& w) { (void)w.grad().norm().item<double>(); }};
  for (const auto& detach : ways) {
    for (const auto launch : kLaunches) {
      run_ranks(2, [&](Communicator& comm) {
        auto weight = leaf({3}), rest = leaf({2});
        Reducer reducer({{"weight", weight}, {"rest", rest}}, comm,
                        {.caps = kOneTensorABucket, .launch = launch});
        for (int step = 0; step < 3; ++step) {
          reducer.zero_grad();
          pass_with_graph(weight, comm.rank());
          detach(weight);
          backward(rest, comm.rank());
          reducer.finish();
          EXPECT_TRUE(at::equal(weight.grad(), 2 * exact_mean(weight, 2))) << step;
          EXPECT_FALSE(weight.grad().requires_grad());
        }
      });
    }
  }
}

TEST(GradientsWithAGraph, ThatAreChangedOnceTheyAreSentAreAnError) {
  const std::function<void(const at::Tensor&)> ways[] = {
      [](const at::Tensor& w) {
        at::NoGradGuard no_grad;
        w.mutable_grad().mul_(2);
      },
      [](const at::Tensor& w) { w.grad().data().mul_(2); },
      [](const at::Tensor& w) { w.grad().detach().zero_(); },
      [](const at::Tensor& w) { torch::nn::utils::clip_grad_norm_(w, 1e-3); },
      [](const at::Tensor& w) { w.mutable_grad() = at::Tensor(); },
      [](const at::Tensor& w) { w.mutable_grad() = w.grad().detach() * 2; },
      [](const at::Tensor& w) { w.mutable_grad() = at::zeros({1}); }};
  for (const auto& change : ways) {
    run_ranks(2, [&](Communicator& comm) {
      auto weight = leaf({3});
      Reducer reducer({{"weight", weight}}, comm);
      for (int step = 0; step < 3; ++step) {
        reducer.zero_grad();
        pass_with_graph(weight, comm.rank());
        if (step == 1) {
          change(weight);
          expect_contains(message_of<UsageError>([&] { reducer.finish(); }),
                          ".grad of parameter 'weight' was ");
        } else {
          reducer.finish();
        }
        EXPECT_TRUE(at::equal(weight.grad(), 2 * exact_mean(weight, 2))) << step;
      }
    });
  }
}

/// What somebody keeps of it is his own afterwards.
TEST(GradientsWithAGraph, MayBeGradientsAgain) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({3});
    Reducer reducer({{"weight", weight}}, comm);
    pass_with_graph(weight, comm.rank());
    const auto kept = weight.grad().detach();
    reducer.finish();
    weight.mutable_grad() = kept;
    reducer.finish();
    EXPECT_TRUE(at::equal(weight.grad(), 2 * exact_mean(weight, 2)));
  });
}

TEST(GradientsWithAGraph, AreDifferentiatedOnceTheyAreSent) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({3});
    Reducer reducer({{"weight", weight}}, comm);
    pass_with_graph(weight, comm.rank());
    const auto second = torch::autograd::grad({weight.grad().sum()}, {weight}).front();
    EXPECT_TRUE(at::equal(second, 2 * exact_gradient(weight, comm.rank())));
    reducer.finish();
    EXPECT_TRUE(at::equal(weight.grad(), 2 * exact_mean(weight, 2)));
  });
}

/// Two parameters whose gradients lie in memory of the caller's.
struct Kept {
  Kept() { assign(); }
  void assign() {
    a.mutable_grad() = flat.narrow(0, 0, 6).view({2, 3});
    b.mutable_grad() = flat.narrow(0, 6, 4);
  }
  void pass(int rank) const {
    backward(a, rank);
    backward(b, rank);
  }
  void expect(const at::Tensor& factor, int ranks) const {
    EXPECT_TRUE(at::equal(a.grad(), factor * exact_mean(a, ranks)));
    EXPECT_TRUE(at::equal(b.grad(), factor * exact_mean(b, ranks)));
    EXPECT_TRUE(at::equal(flat.narrow(0, 6, 4), factor * exact_mean(b, ranks)));
  }

  at::Tensor flat = at::zeros({10});
  at::Tensor a = leaf({2, 3}), b = leaf({4});
};

TEST(GradientsInABufferOfOnesOwn, StayThereAndAreZeroedThere) {
  for (const auto launch : kLaunches) {
    for (const bool assigned_later : {false, true}) {
      for (const int64_t micro_batches : {1, 3}) {
        run_ranks(2, [&](Communicator& comm) {
          Kept kept;
          if (assigned_later) kept.a.mutable_grad() = kept.b.mutable_grad() = at::Tensor();
          Reducer reducer({{"a", kept.a}, {"b", kept.b}}, comm, {.launch = launch});
          if (assigned_later) kept.assign();
          for (int step = 0; step < 4; ++step) {
            kept.flat.zero_();
            for (int64_t i = 1; i < micro_batches; ++i) {
              const auto scope = reducer.accumulate();
              kept.pass(comm.rank());
            }
            kept.pass(comm.rank());
            reducer.finish();
            kept.expect(at::scalar_tensor(micro_batches), 2);
          }
        });
      }
    }
  }
}

TEST(GradientsInABufferOfOnesOwn, MayBeWholeTensorsOrMemoryThatLibTorchDoesNotOwn) {
  run_ranks(2, [](Communicator& comm) {
    for (const bool raw : {false, true}) {
      std::vector<float> memory(4);
      auto weight = leaf({4});
      const auto own = raw ? at::Tensor() : at::zeros({4});
      weight.mutable_grad() = raw ? at::from_blob(memory.data(), {4}) : own;
      Reducer reducer({{"weight", weight}}, comm);
      for (int step = 0; step < 3; ++step) {
        raw ? std::fill(memory.begin(), memory.end(), 0.F) : void(own.zero_());
        backward(weight, comm.rank());
        reducer.finish();
        EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 2)));
        const auto seen = raw ? at::from_blob(memory.data(), {4}) : own;
        EXPECT_TRUE(at::equal(seen, exact_mean(weight, 2)));
      }
      weight.mutable_grad() = at::Tensor();
    }
  });
}

TEST(GradientsInABufferOfOnesOwn, GoWithAFlatOptimizer) {
  run_ranks(2, [](Communicator& comm) {
    Kept kept;
    Reducer reducer({{"a", kept.a}, {"b", kept.b}}, comm);
    FlatOptimizer optimizer(reducer, {.rule = UpdateRule::sgd, .weight_decay = 0});
    auto expected = at::ones({4});
    for (int step = 0; step < 4; ++step) {
      kept.flat.zero_();
      kept.pass(comm.rank());
      if (step % 2) {
        reducer.finish(optimizer.on_bucket(0.5));
      } else {
        reducer.finish();
        kept.flat.mul_(2);  // as clipping would
        optimizer.step(0.25);
      }
      expected = expected - exact_mean(expected, 2) / 2;
      EXPECT_TRUE(at::equal(kept.b, expected));
    }
  });
}

/// Through `.grad`, as an optimizer's zero_grad() does where it is no view, before anything was
/// sent.
TEST(GradientsInABufferOfOnesOwn, MayBeZeroedToThrowAPassAway) {
  for (const auto launch : {Launch::counted, Launch::at_finish}) {
    run_ranks(2, [&](Communicator& comm) {
      Kept kept;
      Reducer reducer({{"a", kept.a}, {"b", kept.b}}, comm, {.launch = launch});
      for (int step = 0; step < 3; ++step) {
        kept.flat.zero_();
        kept.pass(comm.rank());
        for (const auto& w : {kept.a, kept.b}) w.grad().zero_();
        for (int i = 0; i < 2; ++i) kept.pass(comm.rank());
        reducer.finish();
        kept.expect(at::scalar_tensor(2), 2);
      }
    });
  }
}

TEST(GradientsInABufferOfOnesOwn, ThatAreScaledBetweenTwoPassesAreAnErrorFromTheFirstStepOn) {
  const auto comm = make_self_communicator();
  for (const int64_t before : {0, 1}) {
    Kept kept;
    Reducer reducer({{"a", kept.a}, {"b", kept.b}}, *comm, {.launch = Launch::at_finish});
    for (int64_t step = 0; step < before; ++step) {
      kept.pass(1);
      reducer.finish();
    }
    kept.pass(1);
    kept.a.grad().mul_(2);
    expect_contains(message_of<UsageError>([&] { kept.pass(1); }), "'a' was written to");
  }
}

TEST(GradientsInABufferOfOnesOwn, MayBeLeftForTheReducers) {
  run_ranks(2, [](Communicator& comm) {
    Kept kept;
    Reducer reducer({{"a", kept.a}, {"b", kept.b}}, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      kept.pass(comm.rank());
      reducer.finish();
      EXPECT_TRUE(at::equal(kept.b.grad(), exact_mean(kept.b, 2)));
    }
    EXPECT_EQ(reducer.counters().copies, 0);
    EXPECT_TRUE(at::equal(kept.flat, at::zeros({10})));
  });
}

}  // namespace
}  // namespace isobar::own_gradients_test
