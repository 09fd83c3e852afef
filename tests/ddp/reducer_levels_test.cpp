// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include <gtest/gtest.h>

#include <tuple>

#include "ddp/exact.hpp"

namespace isobar::reducer_levels_test {
namespace {

using namespace test;

/// Ranks a model, replicas.
class ReducerLevels : public testing::TestWithParam<std::tuple<int, int>> {
 protected:
  static int model_size() { return std::get<0>(GetParam()); }
  static int world_size() { return std::get<0>(GetParam()) * std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Grids, ReducerLevels,
                         testing::Values(std::tuple{2, 2}, std::tuple{2, 3}, std::tuple{3, 2},
                                         std::tuple{4, 1}));

/// Parameters of every reduction, of several types and of sizes that nothing divides.
std::vector<NamedParameter> mixed_parameters() {
  std::vector<NamedParameter> list;
  const auto add = [&](at::IntArrayRef sizes, Reduction reduction, at::ScalarType type) {
    list.push_back({"p" + std::to_string(list.size()), leaf(sizes, type), reduction});
  };
  for (const auto reduction : {Reduction::replicated, Reduction::partial, Reduction::sharded}) {
    add({3, 5}, reduction, at::kFloat);
    add({129}, reduction, at::kFloat);
    add({0}, reduction, at::kFloat);
    add({7}, reduction, at::kDouble);
    add({5}, reduction, at::kComplexFloat);
    add({9}, reduction, at::kBFloat16);
  }
  return list;
}

/// The gradients after three steps, in the second of which every rank has its own order.
std::vector<at::Tensor> gradients_of(const ProcessGrid& grid, const ReducerOptions& options) {
  const auto parameters = mixed_parameters();
  Reducer reducer(parameters, grid, options);
  const int rank = grid.world().rank();
  const auto count = static_cast<int>(parameters.size());
  int64_t planned = 0;
  for (int step = 0; step < 3; ++step) {
    planned += static_cast<int64_t>(reducer.plan().size());
    reducer.zero_grad();
    for (int i = 0; i < count; ++i) {
      const int shift = step == 1 ? rank : 0;
      backward(parameters[(i + shift) % count].tensor, rank);
    }
    reducer.finish();
  }
  EXPECT_EQ(reducer.counters().collectives, planned);
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) gradients.push_back(parameter.tensor.grad());
  return gradients;
}

TEST_P(ReducerLevels, GiveTheSameBitsAsOneLevel) {
  run_ranks(world_size(), [](Communicator& comm) {
    const ProcessGrid grid(comm, model_size());
    const auto flat = gradients_of(grid, {});
    for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
      for (const auto& caps : {BucketCaps{}, kOneTensorABucket}) {
        const auto two =
            gradients_of(grid, {.caps = caps, .launch = launch, .levels = GridLevels::two});
        for (size_t i = 0; i < flat.size(); ++i) EXPECT_TRUE(at::equal(two[i], flat[i]));
      }
    }
  });
}

TEST_P(ReducerLevels, ReduceEachParameterAsItsReductionSays) {
  run_ranks(world_size(), [](Communicator& comm) {
    const ProcessGrid grid(comm, model_size());
    const int replicas = grid.replicas();
    auto replicated = leaf({5}), partial = leaf({6}), sharded = leaf({7});
    Reducer reducer({{"replicated", replicated},
                     {"partial", partial, Reduction::partial},
                     {"sharded", sharded, Reduction::sharded}},
                    grid, {.levels = GridLevels::two});
    for (auto t : {replicated, partial, sharded}) backward(t, comm.rank());
    reducer.finish();
    auto owned = at::zeros({7});
    for (int d = 0; d < replicas; ++d) {
      owned += exact_gradient(owned, d * model_size() + grid.model().rank());
    }
    EXPECT_TRUE(at::equal(replicated.grad(), exact_mean(replicated, comm.size())));
    EXPECT_TRUE(at::equal(partial.grad(), exact_sum(partial, comm.size()) / replicas));
    EXPECT_TRUE(at::equal(sharded.grad(), owned / replicas));
  });
}

TEST(ReducerTwoLevels, PadBucketsSoThatTheyDivide) {
  run_ranks(3, [](Communicator& comm) {
    const ProcessGrid grid(comm, 3);
    auto weight = leaf({17});
    Reducer reducer({{"weight", weight}}, grid, {.levels = GridLevels::two});
    EXPECT_EQ(reducer.gradients(0).numel(), 48);
    backward(weight, comm.rank());
    reducer.finish([&](const ReducedBucket& reduced) {
      EXPECT_TRUE(at::equal(reduced.gradients.narrow(0, 17, 31), at::zeros({31})));
    });
  });
}

TEST(ReducerTwoLevels, StartInTheBackwardPassBesideTheModelsOwnExchanges) {
  run_ranks(4, [](Communicator& comm) {
    const ProcessGrid grid(comm, 2);
    auto early = leaf({4}), late = leaf({4});
    Reducer reducer({{"early", early}, {"late", late}}, grid,
                    {.caps = kOneTensorABucket, .levels = GridLevels::two});
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      // Ranks exchange over the model's communicator before, between or after their buckets.
      for (int i = 0; i < 3; ++i) {
        if (i == (comm.rank() + step) % 3) grid.model().barrier().wait();
        if (i < 2) backward(i == 0 ? late : early, comm.rank());
      }
      reducer.finish();
      EXPECT_TRUE(at::equal(early.grad(), exact_mean(early, 4)));
      EXPECT_TRUE(at::equal(late.grad(), exact_mean(late, 4)));
    }
    EXPECT_EQ(reducer.counters().launched_in_backward, 6);
  });
}

TEST(ReducerTwoLevels, NeedMoreThanOneRankAModel) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Reducer reducer({{"weight", leaf({2})}}, comm, {.levels = GridLevels::two});
       })) {
    EXPECT_NE(message.find("GridLevels::flat"), std::string::npos) << message;
  }
  for (const auto& message : errors_of([](Communicator& comm) {
         const ProcessGrid grid(comm, 1);
         Reducer reducer({{"weight", leaf({2})}}, grid, {.levels = GridLevels::two});
       })) {
    EXPECT_NE(message.find("GridLevels::flat"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace isobar::reducer_levels_test
