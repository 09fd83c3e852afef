// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include <gtest/gtest.h>

#include <array>

#include "ddp/exact.hpp"

namespace isobar::reducer_replan_test {
namespace {

using namespace test;

std::vector<int64_t> flat_order(const BucketPlan& plan) {
  std::vector<int64_t> order;
  for (const auto& bucket : plan) {
    order.insert(order.end(), bucket.parameters.begin(), bucket.parameters.end());
  }
  return order;
}

/// Three parameters and their reducer.
struct Three {
  explicit Three(Communicator& comm, ReducerOptions options = {.caps = kOneTensorABucket})
      : comm(comm),
        reducer({{"a", tensors[0]}, {"b", tensors[1]}, {"c", tensors[2]}}, comm, options) {}

  void step(const std::vector<int>& order) {
    reducer.zero_grad();
    for (const int i : order) backward(tensors[i], comm.rank());
    reducer.finish();
    for (const auto& t : tensors) {
      EXPECT_TRUE(at::equal(t.grad(), exact_sum(t, comm.size()) / comm.size()));
    }
  }

  Communicator& comm;
  std::array<at::Tensor, 3> tensors{leaf({4}), leaf({4}), leaf({4})};
  Reducer reducer;
};

TEST(ReducerReplan, PlansInTheOrderOfThatStepOnRankZero) {
  run_ranks(3, [](Communicator& comm) {
    Three three(comm);
    EXPECT_EQ(three.reducer.plan_version(), 1);
    three.step({0, 1, 2});
    EXPECT_EQ(three.reducer.plan_version(), 2);
    EXPECT_EQ(flat_order(three.reducer.plan()), (std::vector<int64_t>{0, 1, 2}));
    three.step({2, 0, 1});
    EXPECT_EQ(three.reducer.plan_version(), 2);  // nobody has asked
    three.reducer.replan();
    three.step(comm.rank() == 0 ? std::vector{2, 0, 1} : std::vector{1, 0, 2});
    EXPECT_EQ(three.reducer.plan_version(), 3);
    EXPECT_EQ(flat_order(three.reducer.plan()), (std::vector<int64_t>{2, 0, 1}));
    three.step({2, 0, 1});
    EXPECT_EQ(three.reducer.plan_version(), 3);
    EXPECT_EQ(three.reducer.counters().collectives, 12);
  });
}

TEST(ReducerReplan, TakesNewCaps) {
  run_ranks(2, [](Communicator& comm) {
    Three three(comm);
    three.step({0, 1, 2});
    EXPECT_EQ(three.reducer.plan().size(), 3U);
    three.reducer.replan({.cap_list = {16, 1024}});
    three.step({0, 1, 2});
    EXPECT_EQ(three.reducer.plan().size(), 2U);
    three.reducer.replan();  // keeps them
    three.step({0, 1, 2});
    EXPECT_EQ(three.reducer.plan().size(), 2U);
    EXPECT_THROW(three.reducer.replan({.cap_bytes = 0}), UsageError);
  });
}

TEST(ReducerReplan, KeepsWhatWasCounted) {
  run_ranks(2, [](Communicator& comm) {
    Three three(comm, {.caps = kOneTensorABucket, .launch = Launch::counted});
    three.step({0, 1, 2});
    three.reducer.replan();
    three.step({2, 1, 0});
    three.step({2, 1, 0});
    EXPECT_EQ(three.reducer.counters().launched_in_backward, 6);
  });
}

TEST(ReducerReplan, KeepsTheOrderWhereNoGradientCame) {
  run_ranks(2, [](Communicator& comm) {
    Three three(comm);
    auto scope = three.reducer.accumulate();
    three.step({0, 1, 2});
    EXPECT_EQ(flat_order(three.reducer.plan()), (std::vector<int64_t>{2, 1, 0}));
  });
}

TEST(ReducerReplan, RefusesDifferentCapsOnEveryRankAndGoesOn) {
  run_ranks(3, [](Communicator& comm) {
    Three three(comm);
    three.step({0, 1, 2});
    three.reducer.replan({.cap_bytes = 100 + comm.rank()});
    try {
      three.step({2, 1, 0});
      ADD_FAILURE() << "ranks with different caps agreed on a plan";
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("rank 1"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("101"), std::string::npos) << error.what();
    }
    EXPECT_EQ(three.reducer.plan_version(), 2);
    three.step({0, 1, 2});
  });
}

TEST(ReducerReplan, FailsOnEveryRankWhereOneHasNotAsked) {
  std::array<std::string, 3> messages;
  try {
    run_ranks(3, [&](Communicator& comm) {
      Three three(comm);
      three.step({0, 1, 2});
      if (comm.rank() != 1) three.reducer.replan();
      try {
        for (int step = 0; step < 2; ++step) three.step({0, 1, 2});
      } catch (const CommError& error) {
        messages[comm.rank()] = error.what();
      }
    });
  } catch (const Error&) {
    // A rank that left with an error: what counts is what each of them got.
  }
  for (const auto& message : messages) {
    EXPECT_NE(message.find("all ranks must issue the same collectives"), std::string::npos)
        << message;
  }
}

}  // namespace
}  // namespace isobar::reducer_replan_test
