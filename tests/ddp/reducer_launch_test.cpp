// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

#include "ddp/exact.hpp"

namespace isobar::reducer_launch_test {
namespace {

using namespace test;

class ReducerLaunch : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ReducerLaunch, testing::Values(1, 2, 3, 4));

/// A product that keeps nothing for the backward pass but computes itself once more in it: the
/// weight gets a gradient from inside, and an undefined one from outside.
struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight) {
    context->save_for_backward({input, weight});
    return input * weight;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const c10::AutoGradMode enabled(true);
    torch::autograd::backward({saved[0] * saved[1]}, {grads[0]});
    return {at::Tensor(), at::Tensor()};
  }
};

TEST_P(ReducerLaunch, AtFinishTakesAnyNumberOfGradientsInAnyOrder) {
  run_ranks(GetParam(), [](Communicator& comm) {
    auto a = leaf({5}), b = leaf({3});
    Reducer reducer({{"a", a}, {"b", b}}, comm,
                    {.caps = kOneTensorABucket, .launch = Launch::at_finish});
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      for (int pass = 0; pass <= step; ++pass) {
        backward(comm.rank() % 2 ? a : b, comm.rank());
        backward(comm.rank() % 2 ? b : a, comm.rank());
      }
      reducer.finish();
      EXPECT_TRUE(at::equal(a.grad(), (step + 1) * exact_sum(a, comm.size()) / comm.size()));
      EXPECT_TRUE(at::equal(b.grad(), (step + 1) * exact_sum(b, comm.size()) / comm.size()));
    }
    EXPECT_EQ(reducer.counters().launched_in_backward, 0);
    EXPECT_EQ(reducer.counters().collectives, 6);
  });
}

TEST_P(ReducerLaunch, CountedSendsInFinishAtFirstAndThenWithTheLastGradient) {
  run_ranks(GetParam(), [](Communicator& comm) {
    auto a = leaf({5}), b = leaf({3});
    Reducer reducer({{"a", a}, {"b", b}}, comm,
                    {.caps = kOneTensorABucket, .launch = Launch::counted});
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      const auto sent_before = reducer.counters().collectives;
      int pass = 0;
      for (const auto& parameter : {a, b, a, a, b}) {
        backward(parameter, comm.rank());
        ++pass;
        const int complete = pass == 5 ? 2 : pass == 4 ? 1 : 0;
        EXPECT_EQ(reducer.counters().collectives - sent_before, step == 0 ? 0 : complete);
      }
      reducer.finish();
      EXPECT_TRUE(at::equal(a.grad(), 3 * exact_sum(a, comm.size()) / comm.size()));
      EXPECT_TRUE(at::equal(b.grad(), 2 * exact_sum(b, comm.size()) / comm.size()));
    }
    EXPECT_EQ(reducer.counters().launched_in_backward, 4);
    EXPECT_EQ(reducer.counters().deviations, 0);
  });
}

TEST(ReducerLaunchMode, FirstGradientTakesRecomputedActivationsAndUndefinedGradients) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({4});
    Reducer reducer({{"weight", weight}}, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      Recomputed::apply(exact_gradient(weight, comm.rank()), weight).sum().backward();
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 2)));
    }
    EXPECT_EQ(reducer.counters().launched_in_backward, 3);
  });
}

TEST(ReducerLaunchMode, CountedTakesGradientsOfRecomputedActivations) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({4});
    Reducer reducer({{"weight", weight}}, comm, {.launch = Launch::counted});
    const auto input = exact_gradient(weight, comm.rank());
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      (Recomputed::apply(input, weight) + Recomputed::apply(2 * input, weight)).sum().backward();
      EXPECT_EQ(reducer.counters().launched_in_backward, step);
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), 3 * exact_sum(weight, 2) / 2));
    }
  });
}

TEST(ReducerLaunchMode, CountedDoesNotWaitForParametersThatAreUnused) {
  run_ranks(2, [](Communicator& comm) {
    auto used = leaf({4}), unused = leaf({4});
    Reducer reducer({{"used", used}, {"unused", unused}}, comm,
                    {.caps = kOneTensorABucket, .launch = Launch::counted});
    for (int step = 0; step < 3; ++step) {
      for (auto t : {used, unused}) t.mutable_grad() = at::Tensor();
      backward(used, comm.rank());
      EXPECT_EQ(reducer.counters().launched_in_backward, 2 * step);
      reducer.finish();
      EXPECT_TRUE(at::equal(used.grad(), exact_mean(used, 2)));
      EXPECT_TRUE(at::equal(unused.grad(), at::zeros({4})));
    }
  });
}

TEST(ReducerLaunchMode, CountedSendsAnUnusedParametersGradientAsItIsAtLaunch) {
  run_ranks(2, [](Communicator& comm) {
    auto used = leaf({4}), unused = leaf({4});
    Reducer reducer({{"used", used}, {"unused", unused}}, comm, {.launch = Launch::counted});
    for (int step = 0; step < 2; ++step) {
      used.mutable_grad() = at::Tensor();
      unused.mutable_grad() = at::full({4}, 2.0 + 2 * comm.rank());
      backward(used, comm.rank());
      reducer.finish();
      EXPECT_TRUE(at::equal(unused.grad(), at::full({4}, 3.0)));
    }
  });
}

TEST(ReducerLaunchMode, CountedRefusesMoreGradientsThanCountedBeforeTheyAreAdded) {
  auto comm = make_self_communicator();
  auto weight = leaf({4}), unused = leaf({4});
  Reducer reducer({{"encoder.weight", weight}, {"decoder.weight", unused}}, *comm,
                  {.launch = Launch::counted});
  for (int step = 0; step < 2; ++step) {
    reducer.zero_grad();
    backward(weight, 1);
    if (step == 0) reducer.finish();
  }
  for (const auto& [tensor, name] :
       {std::pair{weight, "'encoder.weight'"}, std::pair{unused, "'decoder.weight'"}}) {
    try {
      backward(tensor, 1);
      ADD_FAILURE() << "a gradient of " << name << " beyond those counted was added";
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("Launch::at_finish"), std::string::npos);
    }
  }
  EXPECT_TRUE(at::equal(weight.grad(), exact_gradient(weight, 1)));
}

TEST(ReducerLaunchMode, CountedIsRightWhereAStepHasFewerGradients) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({4}), b = leaf({4});
    Reducer reducer({{"a", a}, {"b", b}}, comm,
                    {.caps = kOneTensorABucket, .launch = Launch::counted});
    for (int step = 0; step < 3; ++step) {
      const bool deviates = step == 1 && comm.rank() == 1;
      reducer.zero_grad();
      backward(a, comm.rank());
      if (!deviates) backward(a, comm.rank());
      backward(b, comm.rank());
      reducer.finish();
      const auto less = step == 1 ? exact_gradient(a, 1) : at::zeros({4});
      EXPECT_TRUE(at::equal(a.grad(), (2 * exact_sum(a, 2) - less) / 2));
      EXPECT_TRUE(at::equal(b.grad(), exact_mean(b, 2)));
    }
    EXPECT_EQ(reducer.counters().deviations, comm.rank());
  });
}

TEST(ReducerLaunchMode, CountedLeavesTheNumberOfMicroBatchesInScopesOpen) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({4});
    Reducer reducer({{"weight", weight}}, comm, {.launch = Launch::counted});
    for (const int in_scope : {1, 3, 0}) {
      reducer.zero_grad();
      {
        auto scope = reducer.accumulate();
        for (int pass = 0; pass < in_scope; ++pass) backward(weight, comm.rank());
      }
      backward(weight, comm.rank());
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), (in_scope + 1) * exact_sum(weight, 2) / 2));
    }
    EXPECT_EQ(reducer.counters().launched_in_backward, 2);
    EXPECT_EQ(reducer.counters().collectives, 3);
  });
}

TEST(ReducerLaunchMode, CountedRefusesAScopeAfterTheBucketWasSent) {
  auto comm = make_self_communicator();
  auto weight = leaf({4});
  Reducer reducer({{"weight", weight}}, *comm, {.launch = Launch::counted});
  backward(weight, 1);
  reducer.finish();
  reducer.zero_grad();
  backward(weight, 1);
  auto scope = reducer.accumulate();
  EXPECT_THROW(backward(weight, 1), UsageError);
}

TEST(ReducerLaunchMode, NamesTheModesThatTakeASecondGradient) {
  auto comm = make_self_communicator();
  auto weight = leaf({4});
  Reducer reducer({{"weight", weight}}, *comm);
  backward(weight, 0);
  try {
    backward(weight, 0);
    FAIL() << "a second gradient of a bucket in flight was added";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("Launch::counted"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("Launch::at_finish"), std::string::npos);
  }
}

TEST(ReducerLaunchMode, TakesOneGraphTwiceAndSeveralForwardPassesBeforeOneBackward) {
  run_ranks(2, [](Communicator& comm) {
    for (const auto launch : {Launch::counted, Launch::at_finish}) {
      auto weight = leaf({4});
      Reducer reducer({{"weight", weight}}, comm, {.launch = launch});
      for (int step = 0; step < 2; ++step) {
        reducer.zero_grad();
        const auto gradient = exact_gradient(weight, comm.rank());
        auto loss = (weight * gradient).sum() + (weight * gradient * 2).sum();
        loss.backward({}, /*retain_graph=*/true);
        loss.backward();
        reducer.finish();
        EXPECT_TRUE(at::equal(weight.grad(), 6 * exact_sum(weight, 2) / 2));
      }
    }
  });
}

/// A pass whose loss was not finite, say, and that is thrown away on all ranks.
TEST(ReducerLaunchMode, TakesPassesThatAreDiscardedBeforeABucketWasSent) {
  using Discard = std::function<void(Reducer&, torch::optim::Optimizer&)>;
  const std::vector<Discard> ways{[](auto& reducer, auto&) { reducer.zero_grad(); },
                                  [](auto&, auto& optimizer) { optimizer.zero_grad(true); },
                                  [](auto&, auto& optimizer) { optimizer.zero_grad(false); }};
  for (const auto& discard : ways) {
    for (const auto launch : {Launch::counted, Launch::at_finish}) {
      run_ranks(2, [&](Communicator& comm) {
        auto a = leaf({5}), b = leaf({3});
        Reducer reducer({{"a", a}, {"b", b}}, comm, {.launch = launch});
        torch::optim::SGD optimizer({a, b}, torch::optim::SGDOptions(0.1));
        for (int step = 0; step < 4; ++step) {
          const bool has_b = step != 2;  // which that step only had in the pass before
          optimizer.zero_grad(step % 2 == 0);
          for (int pass = 0; pass < 3; ++pass) {
            backward(a, comm.rank());
            if (has_b || pass == 0) backward(b, comm.rank());
            if (pass == 0) discard(reducer, optimizer);
          }
          reducer.finish();
          EXPECT_TRUE(at::equal(a.grad(), exact_sum(a, 2)));
          EXPECT_TRUE(at::equal(b.grad(), has_b ? exact_sum(b, 2) : at::zeros({3})));
        }
      });
    }
  }
}

TEST(ReducerLaunchMode, RefusesDifferentModesOnEveryRank) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Reducer reducer({{"weight", leaf({2})}}, comm,
                         {.launch = comm.rank() ? Launch::counted : Launch::at_finish});
       })) {
    EXPECT_NE(message.find("counted"), std::string::npos) << message;
    EXPECT_NE(message.find("at_finish"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace isobar::reducer_launch_test
