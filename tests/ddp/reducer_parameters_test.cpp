// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include <torch/csrc/autograd/autograd.h>
#include <gtest/gtest.h>

#include <optional>

#include "ddp/exact.hpp"

namespace isobar::reducer_parameters_test {
namespace {

using namespace test;

class ReducerTypes : public testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Types, ReducerTypes,
                         testing::Values(at::kHalf, at::kBFloat16, at::kFloat, at::kDouble,
                                         at::kComplexFloat, at::kComplexDouble));

TEST_P(ReducerTypes, AveragesExactly) {
  run_ranks(4, [](Communicator& comm) {
    auto weight = leaf({3, 5}, GetParam()), other = leaf({2});
    Reducer reducer({{"weight", weight}, {"other", other}}, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      backward(weight, comm.rank());
      backward(other, comm.rank());
      reducer.finish();
      EXPECT_EQ(weight.grad().scalar_type(), GetParam());
      EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 4)));
      EXPECT_TRUE(at::equal(other.grad(), exact_mean(other, 4)));
    }
    EXPECT_EQ(reducer.counters().copies, 0);
  });
}

TEST_P(ReducerTypes, DividesAsATensorDividesByANumber) {
  run_ranks(3, [](Communicator& comm) {
    auto weight = leaf({70}, GetParam());
    Reducer reducer({{"weight", weight}}, comm);
    backward(weight, comm.rank());
    reducer.finish();
    const auto sum = exact_sum(weight, 3);
    EXPECT_TRUE(at::equal(weight.grad(), sum.is_complex()
                                             ? at::view_as_complex(at::view_as_real(sum).div(3))
                                             : sum.div(3)));
  });
}

TEST(ReducerParameters, KeepsImaginaryPartsApart) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({7}, at::kComplexFloat);
    const auto factor = [&](int rank) {
      return at::complex(at::arange(7, at::kFloat), at::full({7}, 2.0F + 4 * rank));
    };
    Reducer reducer({{"weight", weight}}, comm);
    at::real((weight * factor(comm.rank())).sum()).backward();
    reducer.finish();
    EXPECT_TRUE(at::equal(weight.grad(), at::conj(factor(0) + factor(1)).resolve_conj() / 2));
  });
}

TEST(ReducerParameters, TakesEveryLayoutSideBySide) {
  run_ranks(2, [](Communicator& comm) {
    auto expanded = at::ones({3, 1}).expand({3, 4}).set_requires_grad(true);
    auto strided = at::ones({6, 8}).slice(1, 0, 8, 2).detach().set_requires_grad(true);
    auto channels_last = at::ones({2, 3, 2, 2}, at::kBFloat16)
                             .contiguous(at::MemoryFormat::ChannelsLast)
                             .set_requires_grad(true);
    std::vector<at::Tensor> all{expanded, strided, channels_last, leaf({0, 4}), leaf({})};
    std::vector<NamedParameter> parameters;
    for (const auto& t : all) parameters.push_back({std::to_string(parameters.size()), t});
    Reducer reducer(parameters, comm);
    for (int step = 0; step < 3; ++step) {
      for (auto& t : all) t.mutable_grad() = at::Tensor();
      for (auto& t : all) backward(t, comm.rank());
      reducer.finish();
      for (auto& t : all) EXPECT_TRUE(at::equal(t.grad(), exact_mean(t, 2)));
      EXPECT_EQ(channels_last.grad().strides(), channels_last.strides());
    }
  });
}

TEST(ReducerParameters, RefusesOneTensorUnderTwoNames) {
  const auto messages = errors_of([](Communicator& comm) {
    auto shared = leaf({2});
    Reducer reducer({{"encoder.weight", shared}, {"decoder.weight", shared}}, comm);
  });
  for (const auto& message : messages) {
    EXPECT_NE(message.find("'encoder.weight'"), std::string::npos) << message;
    EXPECT_NE(message.find("'decoder.weight'"), std::string::npos) << message;
  }
}

TEST(ReducerParameters, SumsBothUsesOfASharedParameter) {
  run_ranks(2, [](Communicator& comm) {
    auto shared = leaf({4});
    Reducer reducer({{"shared", shared}}, comm);
    for (int step = 0; step < 2; ++step) {
      reducer.zero_grad();
      const auto gradient = exact_gradient(shared, comm.rank());
      ((shared * gradient).sum() + (shared * gradient * 2).sum()).backward();
      reducer.finish();
      EXPECT_TRUE(at::equal(shared.grad(), 3 * exact_sum(shared, 2) / 2));
    }
  });
}

TEST(ReducerParameters, RefusesFrozenAndSparseOnesAndOtherLayoutsByName) {
  const auto channels_last = [] {
    return at::ones({2, 3, 2, 2})
        .contiguous(at::MemoryFormat::ChannelsLast)
        .set_requires_grad(true);
  };
  const std::vector<std::function<at::Tensor(int)>> wrong{
      [](int) { return at::ones({2}); }, [](int) { return leaf({2}) * 2; },
      [](int) { return at::Tensor(); },
      [&](int rank) {
        return rank ? channels_last() : leaf({2, 3, 2, 2});
      }};
  for (const auto& make : wrong) {
    for (const auto& message : errors_of([&](Communicator& comm) {
           Reducer reducer({{"fine", leaf({3})}, {"culprit", make(comm.rank())}}, comm);
         })) {
      EXPECT_NE(message.find("culprit"), std::string::npos) << message;
    }
  }
}

TEST(ReducerParameters, RefusesAnotherOrderOnEveryRank) {
  for (const auto& message : errors_of(
           [](Communicator& comm) {
             std::vector<NamedParameter> parameters{{"a", leaf({2})}, {"b", leaf({2})}};
             if (comm.rank() == 2) std::swap(parameters[0], parameters[1]);
             Reducer reducer(parameters, comm);
           },
           3)) {
    EXPECT_NE(message.find("rank 2"), std::string::npos) << message;
    EXPECT_NE(message.find("'b=Float"), std::string::npos) << message;
  }
}

TEST(ReducerParameters, RefusesUnequalShardsOfOneDataGroupOnEveryRankOfTheWorld) {
  for (const auto& message : errors_of(
           [](Communicator& comm) {
             ProcessGrid grid(comm, 2);
             Reducer reducer({{"table", leaf({comm.rank() == 3 ? 5 : 4}), Reduction::sharded}},
                             grid);
           },
           4)) {
    EXPECT_NE(message.find("table"), std::string::npos) << message;
  }
}

/// The mean over samples of |df/dx|^2, with f = (x·w)^3: what a gradient penalty adds to a loss.
at::Tensor gradient_penalty(const at::Tensor& weight, const at::Tensor& samples) {
  auto input = samples.clone().set_requires_grad(true);
  auto output = at::mv(input, weight).pow(3).sum();
  auto gradient = torch::autograd::grad({output}, {input}, {}, {}, /*create_graph=*/true)[0];
  return gradient.pow(2).sum() / samples.size(0);
}

TEST(ReducerParameters, GivesAGradientPenaltyTheGradientOfOneProcess) {
  run_ranks(2, [](Communicator& comm) {
    const auto samples = at::arange(12, at::kDouble).reshape({4, 3}) % 5;
    auto weight = leaf({3}, at::kDouble), reference = leaf({3}, at::kDouble);
    gradient_penalty(reference, samples).backward();
    Reducer reducer({{"weight", weight}}, comm);
    for (int step = 0; step < 2; ++step) {
      reducer.zero_grad();
      gradient_penalty(weight, samples.narrow(0, 2 * comm.rank(), 2)).backward();
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), reference.grad()));
    }
  });
}

/// Adds the gradient of Σ c·w^3, and then that of the squares of what `.grad` now holds.
void backward_twice(
    const at::Tensor& weight, int rank, const std::function<void()>& between = [] {}) {
  weight.mutable_grad() = at::Tensor();
  (weight.pow(3) * (rank + 1)).sum().backward({}, {}, /*create_graph=*/true);
  between();
  weight.grad().pow(2).sum().backward();
}

TEST(ReducerParameters, LeavesAGradientWithAGraphInPlaceUntilFinish) {
  run_ranks(2, [](Communicator& comm) {
    auto reference = leaf({3});
    auto expected = at::zeros({3});
    for (int rank = 0; rank < 2; ++rank) {
      backward_twice(reference, rank);
      expected += reference.grad().detach();
    }
    reference.mutable_grad() = at::Tensor();  // which its graph refers back to
    for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
      auto weight = leaf({3});
      Reducer reducer({{"weight", weight}}, comm, {.launch = launch});
      for (int step = 0; step < 3; ++step) {
        std::optional<AccumulationScope> scope;
        if (launch == Launch::first_gradient) scope.emplace(reducer);
        backward_twice(weight, comm.rank(), [&] { scope.reset(); });
        EXPECT_TRUE(weight.grad().requires_grad());
        reducer.finish();
        EXPECT_FALSE(weight.grad().requires_grad());
        EXPECT_TRUE(at::equal(weight.grad(), expected / 2));
      }
    }
  });
}

TEST(ReducerParameters, NeverCutsAGraphInSilence) {
  auto comm = make_self_communicator();
  auto weight = leaf({3});
  Reducer reducer({{"weight", weight}}, *comm);
  EXPECT_THROW(backward_twice(weight, 0), UsageError);  // its bucket left with the first gradient
  reducer.finish();
  EXPECT_TRUE(at::equal(weight.grad(), at::full({3}, 3.0)));
}

}  // namespace
}  // namespace isobar::reducer_parameters_test
