// SPDX-License-Identifier: Apache-2.0
// Means of 16-bit gradients: what the type holds of each rank, it holds of their mean, however many
// ranks there are. Sums that are rounded before they are divided fail all of this.
#include <isobar/ddp/reducer.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "ddp/exact.hpp"

namespace isobar::sixteen_bit_means_test {
namespace {

using namespace test;

/// From the largest number of float16 to the smallest one of each type that is not zero. A bfloat16
/// reaches as far as float32, in which it is summed: so not to its end.
at::Tensor equal_gradients(at::ScalarType type) {
  std::vector<double> values{40000, 65504, 2000, 1, 1.0 / 3, 6e-5, -65504, 0x1p-14, 0x1p-24};
  if (type == at::kHalf) values.insert(values.end(), {0x1p-15 * 1.25, 0x1p-24 * 3});
  if (type == at::kBFloat16) values.insert(values.end(), {1e34, 0x1p-126, 0x1p-133});
  return at::tensor(values, at::kDouble).to(type);
}

/// Of every magnitude that the type has, and of either sign.
at::Tensor drawn_gradients(at::ScalarType type, int rank) {
  constexpr int64_t kCount = 500;
  const double lowest = type == at::kHalf ? -24 : -100, highest = type == at::kHalf ? 15.9 : 100;
  const auto index = at::arange(kCount, at::kDouble);
  const auto exponents = lowest + (highest - lowest) * (index / kCount);
  const auto spread = 0.5 + 0.5 * at::sin(index * (rank + 1.5)).abs();
  return (at::exp2(exponents) * spread * at::cos(index * 3 + rank).sign()).to(type);
}

/// The nearest numbers of the type lie at most so far apart around `value`.
at::Tensor spacing(const at::Tensor& value, at::ScalarType type) {
  const bool is_half = type == at::kHalf;
  const auto exponent = at::frexp(value.abs().clamp_min(is_half ? 0x1p-14 : 0x1p-126));
  return at::ldexp(at::ones_like(value), std::get<1>(exponent) - (is_half ? 11 : 8));
}

at::Tensor reduced(Communicator& comm, const ProcessGrid* grid, const at::Tensor& gradient,
                   Reduction reduction, const ReducerOptions& options) {
  auto weight = leaf(gradient.sizes(), gradient.scalar_type());
  const std::vector<NamedParameter> list{{"w", weight, reduction}};
  auto reducer = grid ? Reducer(list, *grid, options) : Reducer(list, comm, options);
  for (int step = 0; step < 2; ++step) {  // the second is planned anew
    reducer.zero_grad();
    (weight * gradient).sum().backward();
    reducer.finish();
  }
  return weight.grad().clone();
}

at::Tensor sum_of(Communicator& comm, const at::Tensor& gradient) {
  auto sum = gradient.to(at::kDouble);
  comm.allreduce(sum).wait();
  return sum;
}

class SixteenBits : public testing::TestWithParam<std::tuple<at::ScalarType, int>> {
 protected:
  static at::ScalarType type() { return std::get<0>(GetParam()); }
  static int size() { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Means, SixteenBits,
                         testing::Combine(testing::Values(at::kHalf, at::kBFloat16),
                                          testing::Values(2, 3, 8)));

TEST_P(SixteenBits, HoldTheMeanOfEqualGradients) {
  run_ranks(size(), [](Communicator& comm) {
    const auto gradient = equal_gradients(type());
    EXPECT_TRUE(at::equal(reduced(comm, nullptr, gradient, Reduction::replicated, {}), gradient));
  });
}

// A gradient that accumulates is 16-bit too: each pass brings a quarter.
TEST_P(SixteenBits, HoldTheMeanOfAccumulatedGradients) {
  run_ranks(size(), [](Communicator& comm) {
    auto weight = leaf({3}, type());
    Reducer reducer({{"w", weight}}, comm);
    const auto part = at::tensor({10000.0, 0.25, 0x1p-14}, at::kDouble).to(type());
    {
      const AccumulationScope scope(reducer);
      for (int pass = 0; pass < 3; ++pass) (weight * part).sum().backward();
    }
    (weight * part).sum().backward();
    reducer.finish();
    EXPECT_TRUE(at::equal(weight.grad(), part * 4));
  });
}

TEST_P(SixteenBits, AreRoundedOnce) {
  run_ranks(size(), [](Communicator& comm) {
    const auto gradient = drawn_gradients(type(), comm.rank());
    const auto mean = sum_of(comm, gradient) / comm.size();
    // The sum in float32 adds a little of the largest of its terms.
    const auto largest = sum_of(comm, gradient.abs());
    const auto bound = spacing(mean, type()) / 2 + largest * comm.size() * 0x1p-24;
    const auto got = reduced(comm, nullptr, gradient, Reduction::replicated, {});
    EXPECT_TRUE(((got.to(at::kDouble) - mean).abs() <= bound).all().item<bool>());
  });
}

/// Two ranks a model, on one level and on two.
class SixteenBitGrids : public SixteenBits {};
INSTANTIATE_TEST_SUITE_P(Means, SixteenBitGrids,
                         testing::Combine(testing::Values(at::kHalf, at::kBFloat16),
                                          testing::Values(2, 4, 6)));

TEST_P(SixteenBitGrids, HoldTheMeanOfEqualGradientsOfEveryReduction) {
  run_ranks(size(), [](Communicator& comm) {
    const ProcessGrid grid(comm, 2);
    const auto gradient = equal_gradients(type());
    for (const auto levels : {GridLevels::flat, GridLevels::two}) {
      const ReducerOptions options{.levels = levels};
      const auto one_of = [&](Reduction reduction, const at::Tensor& own) {
        return reduced(comm, &grid, own, reduction, options);
      };
      EXPECT_TRUE(at::equal(one_of(Reduction::replicated, gradient), gradient));
      EXPECT_TRUE(at::equal(one_of(Reduction::sharded, gradient), gradient));
      // Shares of one gradient, the other of which is nothing.
      const auto share = grid.model().rank() == 0 ? gradient : at::zeros_like(gradient);
      EXPECT_TRUE(at::equal(one_of(Reduction::partial, share), gradient));
    }
  });
}

// One rounding inside a model's ranks and one across; of a subnormal number the first counts more.
TEST(SixteenBitLevels, AreRoundedTwice) {
  for (const int model_size : {2, 3, 4}) {
    run_ranks(2 * model_size, [&](Communicator& comm) {
      const ProcessGrid grid(comm, model_size);
      for (const auto type : {at::kHalf, at::kBFloat16}) {
        const auto gradient = drawn_gradients(type, comm.rank());
        const auto mean = sum_of(comm, gradient) / comm.size();
        const auto largest = sum_of(comm, gradient.abs());
        const auto bound = spacing(largest, type) + spacing(mean, type) / 2;
        const auto got =
            reduced(comm, &grid, gradient, Reduction::replicated, {.levels = GridLevels::two});
        EXPECT_TRUE(((got.to(at::kDouble) - mean).abs() <= bound).all().item<bool>());
      }
    });
  }
}

TEST(SixteenBitWorlds, HoldTheMeanOfTwoThousandRanks) {
  run_ranks(2048, [](Communicator& comm) {
    for (const auto type : {at::kHalf, at::kBFloat16}) {
      const auto gradient = equal_gradients(type);
      auto mean = gradient.clone();
      comm.allreduce(mean, {.divisor = 2048}).wait();
      if (comm.rank() % 512 == 0) EXPECT_TRUE(at::equal(mean, gradient)) << mean;
      if (type == at::kBFloat16) continue;  // a reducer of one type says what one of another does
      const auto got = reduced(comm, nullptr, gradient, Reduction::replicated, {});
      if (comm.rank() % 512 == 0) EXPECT_TRUE(at::equal(got, gradient)) << got;
    }
  });
}

}  // namespace
}  // namespace isobar::sixteen_bit_means_test
