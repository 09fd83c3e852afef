// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

#include "ddp/exact.hpp"

#include "comm/expect_error.hpp"

namespace isobar::reducer_test {
namespace {

using namespace test;

class ReducerWorlds : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ReducerWorlds, testing::Values(1, 2, 4));

TEST_P(ReducerWorlds, GivesEveryRankTheSameMean) {
  run_ranks(GetParam(), [](Communicator& comm) {
    auto weight = leaf({3, 5});
    Reducer reducer({{"weight", weight}}, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      backward(weight, comm.rank());
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), exact_sum(weight, comm.size()) / comm.size()));
    }
  });
}

TEST_P(ReducerWorlds, GivesTheSameWhateverTheBucketPlan) {
  run_ranks(GetParam(), [](Communicator& comm) {
    for (const BucketCaps& caps : {BucketCaps{}, BucketCaps{1, 1}, BucketCaps{64, 8}}) {
      std::vector<at::Tensor> tensors{leaf({7}), leaf({2, 3}), leaf({1}), leaf({33})};
      Reducer reducer({{"a", tensors[0]}, {"b", tensors[1]}, {"c", tensors[2]}, {"d", tensors[3]}},
                      comm, {.caps = caps});
      for (int step = 0; step < 2; ++step) {
        reducer.zero_grad();
        at::Tensor loss = at::zeros({});
        for (auto& t : tensors) loss = loss + (t * exact_gradient(t, comm.rank())).sum();
        loss.backward();
        reducer.finish();
        for (auto& t : tensors) {
          EXPECT_TRUE(at::equal(t.grad(), exact_sum(t, comm.size()) / comm.size()));
        }
      }
    }
  });
}

TEST(Reducer, NamesItsBucketWhereAnotherRankSendsAnother) {
  const auto text = test::error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      auto weight = leaf({4});
      Reducer reducer({{"weight", weight}}, comm);
      if (comm.rank() == 1) return comm.allreduce(at::ones({4}), {.mark = {.bucket = 5}}).wait();
      backward(weight, 0);
      reducer.finish();
    });
  });
  test::expect_contains(text, " of bucket 0, reducer ");
  test::expect_contains(text, " of bucket 5'");
}

TEST_P(ReducerWorlds, KeepsOrderWhenGradientsArriveReversed) {
  run_ranks(GetParam(), [](Communicator& comm) {
    auto a = leaf({4}), b = leaf({4});
    Reducer reducer({{"a", a}, {"b", b}}, comm, {.caps = kOneTensorABucket});
    // Even ranks send a's gradient first, odd ones b's.
    for (int step = 0; step < 2; ++step) {
      reducer.zero_grad();
      auto first = comm.rank() % 2 ? b : a;
      auto second = comm.rank() % 2 ? a : b;
      backward(first, comm.rank());
      backward(second, comm.rank());
      reducer.finish();
      EXPECT_TRUE(at::equal(a.grad(), exact_sum(a, comm.size()) / comm.size()));
      EXPECT_TRUE(at::equal(b.grad(), a.grad()));
    }
  });
}

TEST(Reducer, PlansOnceMoreInArrivalOrderOfRankZero) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({4}), b = leaf({4}), c = leaf({4});
    Reducer reducer({{"a", a}, {"b", b}, {"c", c}}, comm, {.caps = kOneTensorABucket});
    EXPECT_EQ(reducer.plan().front().parameters.front(), 2);
    const auto order = comm.rank() == 0 ? std::vector{b, a, c} : std::vector{c, b, a};
    for (auto tensor : order) backward(tensor, comm.rank());
    reducer.finish();
    EXPECT_EQ(reducer.plan()[0].parameters.front(), 1);
    EXPECT_EQ(reducer.plan()[1].parameters.front(), 0);
    EXPECT_EQ(reducer.plan()[2].parameters.front(), 2);
    // The gradients moved into the new plan's buffers with their values.
    EXPECT_TRUE(at::equal(b.grad(), exact_sum(b, 2) / 2));
  });
}

TEST(Reducer, StartsFullBucketsWhileBackwardGoesOn) {
  run_ranks(2, [](Communicator& comm) {
    auto early = leaf({4}), late = leaf({4});
    Reducer reducer({{"early", early}, {"late", late}}, comm, {.caps = kOneTensorABucket});
    int64_t collectives_seen = -1;
    // The gradient of the sum reaches `late` first; when the chain gets to `early`, the bucket of
    // `late` must be under way.
    auto hidden = early * 2;
    hidden.register_hook(
        [&](const at::Tensor&) { collectives_seen = reducer.counters().collectives; });
    (hidden * late).sum().backward();
    EXPECT_EQ(collectives_seen, 1);
    reducer.finish();
    EXPECT_EQ(reducer.counters().launched_in_backward, 2);
  });
}

TEST(Reducer, AccumulatesWithoutCommunication) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({6});
    Reducer reducer({{"weight", weight}}, comm);
    reducer.zero_grad();
    {
      auto scope = reducer.accumulate();
      backward(weight, comm.rank());
      backward(weight, comm.rank());
    }
    EXPECT_EQ(reducer.counters().collectives, 0);
    EXPECT_TRUE(at::equal(weight.grad(), 2 * exact_gradient(weight, comm.rank())));
    backward(weight, comm.rank());
    reducer.finish();
    EXPECT_EQ(reducer.counters().collectives, 1);
    EXPECT_TRUE(at::equal(weight.grad(), 3 * exact_sum(weight, 2) / 2));
  });
}

TEST(Reducer, DecidesOnAccumulationAtBackwardAndNotAtForward) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({6});
    Reducer reducer({{"weight", weight}}, comm);
    auto loss = (weight * exact_gradient(weight, comm.rank())).sum();
    auto later = (weight * exact_gradient(weight, comm.rank())).sum();
    {
      auto scope = reducer.accumulate();
      loss.backward();
    }
    later.backward();
    reducer.finish();
    EXPECT_TRUE(at::equal(weight.grad(), exact_sum(weight, 2)));
  });
}

TEST(Reducer, TakesEveryWayToZeroGradients) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({3, 4});
    Reducer reducer({{"weight", weight}}, comm);
    torch::optim::SGD optimizer({weight}, torch::optim::SGDOptions(0.0));
    const std::vector<std::function<void()>> ways{
        [&] { reducer.zero_grad(); }, [&] { optimizer.zero_grad(true); },
        [&] { optimizer.zero_grad(false); }, [&] { weight.mutable_grad() = at::Tensor(); },
        [&] {
          weight.mutable_grad() = at::zeros({3, 4});
        }};
    for (int round = 0; round < 2; ++round) {
      for (const auto& zero : ways) {
        zero();
        backward(weight, comm.rank());
        reducer.finish();
        EXPECT_TRUE(at::equal(weight.grad(), exact_sum(weight, 2) / 2));
      }
    }
  });
}

TEST(Reducer, CopiesNothingInASteadyStep) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({3, 4}), b = leaf({5});
    Reducer reducer({{"a", a}, {"b", b}}, comm, {.caps = kOneTensorABucket});
    for (int step = 0; step < 4; ++step) {
      reducer.zero_grad();
      (a.sum() + b.sum()).backward();
      reducer.finish();
    }
    EXPECT_EQ(reducer.counters().copies, 0);
    EXPECT_EQ(reducer.counters().collectives, 8);
    EXPECT_EQ(reducer.counters().payload_bytes, 4 * 17 * 4);
  });
}

TEST(Reducer, CountsAParameterWithoutGradientAsZero) {
  run_ranks(2, [](Communicator& comm) {
    auto always = leaf({4}), sometimes = leaf({4}), never = leaf({4});
    Reducer reducer({{"always", always}, {"sometimes", sometimes}, {"never", never}}, comm);
    for (int step = 0; step < 3; ++step) {
      for (auto t : {always, sometimes, never}) t.mutable_grad() = at::Tensor();
      backward(always, comm.rank());
      if (comm.rank() == 1) backward(sometimes, 1);
      reducer.finish();
      EXPECT_TRUE(at::equal(always.grad(), exact_sum(always, 2) / 2));
      EXPECT_TRUE(at::equal(sometimes.grad(), exact_gradient(sometimes, 1) / 2));
      EXPECT_TRUE(at::equal(never.grad(), at::zeros({4})));
    }
  });
}

TEST(Reducer, HandlesTypesAndLayoutsSideBySide) {
  run_ranks(2, [](Communicator& comm) {
    auto single = leaf({3}), twice = leaf({5}, at::kDouble), empty = leaf({0, 4});
    auto transposed = at::ones({4, 3}).t().set_requires_grad(true);
    auto channels_last =
        at::ones({2, 3, 2, 2}).contiguous(at::MemoryFormat::ChannelsLast).set_requires_grad(true);
    std::vector<at::Tensor> all{single, twice, empty, transposed, channels_last};
    std::vector<NamedParameter> parameters;
    for (auto& t : all) parameters.push_back({"p" + std::to_string(parameters.size()), t});
    Reducer reducer(parameters, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      for (auto& t : all) backward(t, comm.rank());
      reducer.finish();
      for (auto& t : all) {
        EXPECT_TRUE(at::equal(t.grad(), exact_sum(t, 2) / 2));
        EXPECT_EQ(t.grad().strides(), t.strides());
      }
    }
  });
}

TEST(Reducer, ReducesEachParameterAsItsReductionSays) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    auto replicated = leaf({4}), partial = leaf({4}), sharded = leaf({4});
    Reducer reducer({{"replicated", replicated},
                     {"partial", partial, Reduction::partial},
                     {"sharded", sharded, Reduction::sharded}},
                    grid);
    for (int step = 0; step < 2; ++step) {
      reducer.zero_grad();
      for (auto t : {replicated, partial, sharded}) backward(t, comm.rank());
      reducer.finish();
      const int other = (comm.rank() + 2) % 4;
      EXPECT_TRUE(at::equal(replicated.grad(), exact_sum(replicated, 4) / 4));
      EXPECT_TRUE(at::equal(partial.grad(), exact_sum(partial, 4) / 2));
      EXPECT_TRUE(
          at::equal(sharded.grad(),
                    (exact_gradient(sharded, comm.rank()) + exact_gradient(sharded, other)) / 2));
    }
  });
}

TEST(Reducer, LetsShardsDifferInShapeOverAModelParallelGroup) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    auto shard = leaf({comm.rank() % 2 ? 3 : 5}), shared = leaf({4});
    Reducer reducer({{"shard", shard, Reduction::sharded}, {"shared", shared}}, grid,
                    {.caps = {16, 16}});
    for (int step = 0; step < 2; ++step) {
      reducer.zero_grad();
      backward(shared, comm.rank());
      backward(shard, comm.rank());
      reducer.finish();
      const int other = (comm.rank() + 2) % 4;
      EXPECT_TRUE(at::equal(
          shard.grad(), (exact_gradient(shard, comm.rank()) + exact_gradient(shard, other)) / 2));
    }
  });
}

TEST(Reducer, KeepsTwoReducersInOneProcessApart) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({4}), b = leaf({4});
    Reducer first({{"a", a}}, comm);
    Reducer second({{"b", b}}, comm);
    for (int step = 0; step < 2; ++step) {
      first.zero_grad();
      second.zero_grad();
      (a * b).sum().backward();
      first.finish();
      second.finish();
      EXPECT_TRUE(at::equal(a.grad(), at::ones({4})));
      EXPECT_TRUE(at::equal(b.grad(), at::ones({4})));
    }
  });
}

TEST(Reducer, RefusesAGradientForABucketThatWasSent) {
  auto comm = make_self_communicator();
  auto weight = leaf({4});
  Reducer reducer({{"encoder.weight", weight}}, *comm);
  backward(weight, 0);
  try {
    backward(weight, 0);
    FAIL() << "a second backward pass corrupted a bucket in flight";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("'encoder.weight'"), std::string::npos);
  }
}

TEST(Reducer, DetectsAParameterThatWasRetyped) {
  auto comm = make_self_communicator();
  auto weight = leaf({4});
  Reducer reducer({{"weight", weight}}, *comm);
  weight.set_data(weight.to(at::kDouble));
  reducer.zero_grad();  // the step ends first: it may be so on this rank only
  EXPECT_THROW(reducer.finish(), UsageError);
}

TEST(Reducer, LeavesNoHooksBehind) {
  auto comm = make_self_communicator();
  auto weight = leaf({4});
  { Reducer reducer({{"weight", weight}}, *comm); }
  weight.mutable_grad() = at::Tensor();
  backward(weight, 1);
  EXPECT_TRUE(at::equal(weight.grad(), exact_gradient(weight, 1)));
}

TEST(Reducer, RefusesDifferentModelsOnEveryRankByName) {
  const std::vector<std::function<NamedParameter(int)>> differences{
      [](int rank) {
        return NamedParameter{rank ? "culprit" : "weight", leaf({2})};
      },
      [](int rank) {
        return NamedParameter{"culprit", leaf({2 + rank})};
      },
      [](int rank) {
        return NamedParameter{"culprit", leaf({2}, rank ? at::kDouble : at::kFloat)};
      },
      [](int rank) {
        return NamedParameter{"culprit", leaf({2}),
                              rank ? Reduction::partial : Reduction::replicated};
      }};
  for (const auto& different : differences) {
    const auto messages =
        errors_of([&](Communicator& comm) { Reducer reducer({different(comm.rank())}, comm); });
    for (const auto& message : messages) {
      EXPECT_NE(message.find("culprit"), std::string::npos) << message;
      EXPECT_NE(message.find("rank 1 has"), std::string::npos) << message;
      EXPECT_NE(message.find("rank 0 has"), std::string::npos) << message;
    }
  }
}

TEST(Reducer, RefusesDifferentCapsAndCountsOnEveryRank) {
  for (const auto& message : errors_of([](Communicator& comm) {
         Reducer reducer({{"weight", leaf({2})}}, comm, {.caps = {100 + comm.rank(), 10}});
       })) {
    EXPECT_NE(message.find("101"), std::string::npos) << message;
  }
  for (const auto& message : errors_of([](Communicator& comm) {
         std::vector<NamedParameter> parameters{{"weight", leaf({2})}};
         if (comm.rank() == 1) parameters.push_back({"extra", leaf({2})});
         Reducer reducer(parameters, comm);
       })) {
    EXPECT_NE(message.find("extra"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace isobar::reducer_test
