// SPDX-License-Identifier: Apache-2.0
// What users do in the middle of a step: between backward() and finish(), and inside finish().
#include <isobar/ddp/data_parallel.hpp>

#include "core/message_of.hpp"

#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>
#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "ddp/exact.hpp"
#include "ddp/two_parameters.hpp"

#include "comm/expect_error.hpp"

namespace isobar::mid_step_test {
namespace {

using namespace test;

enum class Order { made_before_the_earlier_goes, made_after, both_stay };

/// Wraps again between backward() and finish(); then zeroes as `zero` does, or not at all.
void wrap_again(Communicator& comm, const DataParallelOptions& options, Order order,
                const std::function<void(DataParallel&, TwoParameters&)>& zero) {
  TwoParameters net;
  auto parallel = std::make_unique<DataParallel>(net, comm, options);
  pass(net, comm.rank());
  parallel->finish();
  parallel->zero_grad();
  pass(net, comm.rank());
  std::unique_ptr<DataParallel> earlier;
  if (order == Order::made_after) parallel.reset();
  if (order == Order::both_stay) earlier = std::move(parallel);
  parallel = std::make_unique<DataParallel>(net, comm, options);
  if (zero) {
    zero(*parallel, net);
    pass(net, comm.rank());
  }
  parallel->finish();
  EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, comm.size())));
  EXPECT_TRUE(at::equal(net.bias.grad(), exact_mean(net.bias, comm.size())));
}

TEST(WrappingAgain, BetweenBackwardAndFinishIsAnErrorThatNamesAParameter) {
  for (const auto order :
       {Order::made_before_the_earlier_goes, Order::made_after, Order::both_stay}) {
    for (const int64_t cap : {1 << 20, 1}) {
      for (const auto& message : errors_of([&](Communicator& comm) {
             wrap_again(comm, {.reducer = {.caps = {.cap_list = {cap}}}}, order, nullptr);
           })) {
        expect_contains(message, ".grad of parameter '");
        expect_contains(message, "' was under way in an earlier wrapper");
      }
    }
  }
}

TEST(WrappingAgain, TakesWhatWasNotSent) {
  run_ranks(2, [](Communicator& comm) {
    for (const auto order : {Order::made_before_the_earlier_goes, Order::made_after}) {
      wrap_again(comm, {.reducer = {.launch = Launch::at_finish}}, order, nullptr);
    }
  });
}

TEST(WrappingAgain, GoesOnOnceThePassIsThrownAway) {
  const std::function<void(DataParallel&, TwoParameters&)> ways[] = {
      [](DataParallel& parallel, TwoParameters&) { parallel.zero_grad(); },
      [](DataParallel&, TwoParameters& net) { net.zero_grad(); },
      [](DataParallel&, TwoParameters& net) {
        for (auto& tensor : net.parameters()) tensor.mutable_grad().zero_();
      }};
  run_ranks(2, [&](Communicator& comm) {
    for (const auto& zero : ways) {
      for (const auto order :
           {Order::made_before_the_earlier_goes, Order::made_after, Order::both_stay}) {
        wrap_again(comm, {}, order, zero);
      }
    }
  });
}

TEST(WrappingAgain, InsideAScopeGoesOnAccumulating) {
  run_ranks(2, [](Communicator& comm) {
    TwoParameters net;
    auto parallel = std::make_unique<DataParallel>(net, comm);
    {
      const auto scope = parallel->accumulate();
      pass(net, comm.rank());
      parallel = std::make_unique<DataParallel>(net, comm);
      pass(net, comm.rank());
    }
    pass(net, comm.rank());
    parallel->finish();
    EXPECT_TRUE(at::equal(net.weight.grad(), 3 * exact_mean(net.weight, 2)));
  });
}

TEST(AccumulationScopes, MayOutliveTheirReducer) {
  run_ranks(2, [](Communicator& comm) {
    TwoParameters net;
    std::optional<DataParallel> parallel(std::in_place, net, comm);
    {
      const auto scope = parallel->accumulate();
      pass(net, comm.rank());
      parallel.reset();
    }
    parallel.emplace(net, comm);
    parallel->finish();
    EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, 2)));
  });
}

TEST(WhatIsLost, IsNotANumberAfterTheWrapper) {
  run_ranks(2, [](Communicator& comm) {
    TwoParameters net;
    {
      DataParallel parallel(net, comm);
      pass(net, comm.rank());
    }
    EXPECT_TRUE(at::isnan(net.weight.grad()).all().item<bool>());
  });
}

/// What on_bucket does, and what finish() says then.
void expect_refused(const std::function<void(std::unique_ptr<DataParallel>&, TwoParameters&)>& act,
                    const std::string& expected) {
  for (const auto launch : kLaunches) {
    run_ranks(2, [&](Communicator& comm) {
      TwoParameters net;
      auto parallel = std::make_unique<DataParallel>(
          net, comm, DataParallelOptions{.reducer = {.caps = {.cap_list = {1}}, .launch = launch}});
      pass(net, comm.rank());
      int64_t buckets = 0;
      const auto said = message_of<UsageError>([&] {
        parallel->finish([&](const ReducedBucket&) {
          if (buckets++ == 0) act(parallel, net);
        });
      });
      expect_contains(said, expected);
      EXPECT_EQ(buckets, 1);
      EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, 2)));
      EXPECT_TRUE(at::equal(net.bias.grad(), exact_mean(net.bias, 2)));
    });
  }
}

TEST(OnBucket, MayNotFinishTheStepThatItIsPartOf) {
  expect_refused([](auto& parallel, TwoParameters&) { parallel->finish(); },
                 "finish() of the DataParallel of '");
}

TEST(OnBucket, MayNotDestroyItsWrapper) {
  expect_refused([](auto& parallel, TwoParameters&) { parallel.reset(); },
                 "was destroyed inside its own on_bucket");
}

TEST(OnBucket, MayNotZeroOrPassBackward) {
  expect_refused([](auto& parallel, TwoParameters&) { parallel->zero_grad(); },
                 "call finish() first");
  expect_refused([](auto&, TwoParameters& net) { pass(net, 0); },
                 "arrived after its bucket was sent");
}

TEST(OnBucket, MayNotWrapItsModuleAgain) {
  run_ranks(2, [](Communicator& comm) {
    TwoParameters net;
    DataParallel parallel(net, comm);
    pass(net, comm.rank());
    expect_contains(message_of<UsageError>([&] {
                      parallel.finish([&](const ReducedBucket&) { DataParallel again(net, comm); });
                    }),
                    "was wrapped again inside its on_bucket");
    EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, 2)));
  });
}

TEST(OnBucket, MayNotDestroyAReducerByItself) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({3}), b = leaf({2});
    auto reducer = std::make_unique<Reducer>(std::vector<NamedParameter>{{"a", a}, {"b", b}}, comm,
                                             ReducerOptions{.caps = kOneTensorABucket});
    backward(a, comm.rank());
    backward(b, comm.rank());
    expect_contains(message_of<UsageError>(
                        [&] { reducer->finish([&](const ReducedBucket&) { reducer.reset(); }); }),
                    "was destroyed inside its own on_bucket");
    EXPECT_TRUE(at::equal(a.grad(), exact_mean(a, 2)));
    EXPECT_TRUE(at::equal(b.grad(), exact_mean(b, 2)));
    backward(a, comm.rank());
    EXPECT_TRUE(at::equal(a.grad(), exact_mean(a, 2) + exact_gradient(a, comm.rank())));
  });
}

TEST(Replan, OnOneRankAloneIsNamed) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      TwoParameters net;
      DataParallel parallel(net, comm, {.compare_parameters_every = 0});
      for (int i = 0; i < 3; ++i) {
        parallel.zero_grad();
        pass(net, comm.rank());
        if (i == 1 && comm.rank() == 1) parallel.reducer().replan();
        parallel.finish();
      }
    });
  });
  expect_contains(text, "of replan(), reducer ");
  expect_contains(text, "of bucket 0, reducer ");
}

TEST(InferenceMode, DoesNotReachWrappersAndTheirSteps) {
  run_ranks(2, [](Communicator& comm) {
    TwoParameters net;
    std::optional<DataParallel> parallel;
    {
      const c10::InferenceMode mode;
      parallel.emplace(net, comm);
    }
    for (int i = 0; i < 3; ++i) {
      {
        const c10::InferenceMode mode;
        parallel->zero_grad();
      }
      pass(net, comm.rank());
      const c10::InferenceMode mode;
      parallel->finish();
      EXPECT_TRUE(c10::InferenceMode::is_enabled());
      EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, 2)));
    }
  });
}

TEST(InferenceMode, IsNamedWhereParametersWereMadeInIt) {
  for (const auto& message : errors_of([](Communicator& comm) {
         std::optional<TwoParameters> net;
         {
           const c10::InferenceMode mode;
           net.emplace();
         }
         DataParallel parallel(*net, comm);
       })) {
    expect_contains(message, "parameter 'weight' was made under c10::InferenceMode");
  }
}

/// What two ranks say that pass, update by themselves and throw the gradients away, twice.
std::string said_of_updates(bool finishes, bool zeroes_by_wrapper, bool by_optimizer = false) {
  testing::internal::CaptureStderr();
  run_ranks(2, [&](Communicator& comm) {
    TwoParameters net;
    DataParallel parallel(net, comm, {.reducer = {.launch = Launch::at_finish}});
    for (int step = 0; step < 2; ++step) {
      pass(net, comm.rank());
      if (finishes) parallel.finish();
      if (by_optimizer) {
        torch::optim::SGD(net.parameters(), 0.1).step();
      } else {
        const at::NoGradGuard no_grad;
        for (auto& parameter : net.parameters()) parameter.mul_(0.5);
      }
      if (zeroes_by_wrapper) {
        parallel.zero_grad();
      } else {
        net.zero_grad(/*set_to_none=*/true);
      }
    }
  });
  return testing::internal::GetCapturedStderr();
}

TEST(UpdateWithoutFinish, IsSaidOnceByRank0) {
  for (const int way : {0, 1, 2, 3}) {
    const auto said = said_of_updates(/*finishes=*/false, way % 2 == 0, way / 2 == 0);
    expect_contains(said,
                    "warning: Reducer: parameter 'weight' was changed after a backward pass "
                    "without finish(): if an optimizer did that");
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  }
}

TEST(UpdateAfterFinish, IsNothingToSay) {
  for (const int way : {0, 1, 2, 3}) {
    EXPECT_EQ(said_of_updates(/*finishes=*/true, way % 2 == 0, way / 2 == 0), "");
  }
}

TEST(Buffers, ResizedOnOneRankAreNamedThere) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      TwoParameters net;
      auto stats = net.register_buffer("stats", at::zeros({4}));
      DataParallel parallel(net, comm, {.buffers = {.action = BufferAction::broadcast}});
      if (comm.rank() == 1) stats.resize_({5});
      pass(net, comm.rank());
      const auto said = message_of<CommError>([&] { parallel.finish(); });
      expect_contains(said, comm.rank() == 1 ? "buffer 'stats' is Float [5], and when"
                                             : "whose own have the sizes that they had");
      throw CommError(said);
    });
  });
  expect_contains(text, "copying buffers to rank ");
}

TEST(Buffers, ThatTradeSizesOnOneRankAreNamedThere) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      TwoParameters net;
      auto first = net.register_buffer("first", at::zeros({2}));
      auto second = net.register_buffer("second", at::zeros({3}));
      DataParallel parallel(net, comm, {.buffers = {.action = BufferAction::broadcast}});
      if (comm.rank() == 1) {
        first.resize_({3});
        second.resize_({2});
      }
      pass(net, comm.rank());
      const auto said = message_of<CommError>([&] { parallel.finish(); });
      expect_contains(said, comm.rank() == 1 ? "buffer 'first' is Float [3], and when"
                                             : "whose own have the sizes that they had");
      throw CommError(said);
    });
  });
  expect_contains(text, "copying buffers to rank ");
}

TEST(Buffers, OfWhichSeveralAreGoneAreNamedByTheFirst) {
  EXPECT_THROW(run_ranks(2,
                         [](Communicator& comm) {
                           TwoParameters net;
                           net.register_buffer("stays", at::zeros({4}));
                           for (const char* name : {"first", "second"}) {
                             net.register_module(name, std::make_shared<torch::nn::Module>())
                                 ->register_buffer("stats", at::zeros({4}));
                           }
                           DataParallel parallel(net, comm,
                                                 {.buffers = {.action = BufferAction::broadcast}});
                           if (comm.rank() == 1) {
                             net.unregister_module("first");
                             net.unregister_module("second");
                           }
                           pass(net, comm.rank());
                           const auto said = message_of<CommError>([&] { parallel.finish(); });
                           if (comm.rank() == 1) {
                             expect_contains(said, "where buffer 'first.stats' is gone");
                           }
                           throw CommError(said);
                         }),
               CommError);
}

TEST(OneModule, InTwoWorldsIsRefusedByName) {
  for (const auto& message : errors_of([](Communicator& comm) {
         const auto other = comm.split(0, comm.rank());
         TwoParameters net;
         DataParallel first(net, comm);
         DataParallel second(net, *other);
         pass(net, comm.rank());
         second.finish();
         EXPECT_TRUE(at::equal(net.weight.grad(), exact_mean(net.weight, 2)));
         first.finish();
       })) {
    expect_contains(message, "the DataParallel of '");
    expect_contains(message, "wrapped anew; use the later wrapper");
  }
}

}  // namespace
}  // namespace isobar::mid_step_test
