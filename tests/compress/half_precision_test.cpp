// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/half_precision.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compress/agreement.hpp"

namespace isobar::half_precision_test {
namespace {

using namespace test;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::shared_ptr<Compressor> half(HalfType type, int64_t start_step = 0) {
  return make_half_precision({.type = type, .start_step = start_step});
}

double unit_roundoff(HalfType type) { return type == HalfType::bfloat16 ? 0x1p-8 : 0x1p-11; }

/// Odd sizes, so that slots have padding, and a parameter without elements.
std::vector<NamedParameter> odd_parameters(at::ScalarType type) {
  return {parameter("matrix", {7, 5}, type), parameter("none", {0}, type),
          parameter("one", {1}, type)};
}

std::vector<at::Tensor> odd_gradients(at::ScalarType type, int64_t step, int64_t rank) {
  return {draw_as(type, {7, 5}, step, rank), at::empty({0}, type), draw_as(type, {1}, step, rank)};
}

/// One step of one float32 parameter with `values` on every rank, but rank 0 has `first`.
at::Tensor reduced(Communicator& comm, HalfType type, const std::vector<double>& first,
                   const std::vector<double>& values) {
  const auto size = static_cast<int64_t>(values.size());
  CompressedModel model({parameter("p", {size}, at::kFloat)}, comm, half(type));
  model.step({at::tensor(comm.rank() == 0 ? first : values, at::kDouble)});
  return model.grad(0).clone();
}

class HalfTypes : public testing::TestWithParam<HalfType> {};
INSTANTIATE_TEST_SUITE_P(HalfPrecision, HalfTypes,
                         testing::Values(HalfType::bfloat16, HalfType::float16));

TEST_P(HalfTypes, GiveEveryRankTheSameBitsWithinTheBound) {
  const double u = unit_roundoff(GetParam());
  for (int ranks = 1; ranks <= 5; ++ranks) {
    run_ranks(ranks, [&](Communicator& comm) {
      CompressedModel model(odd_parameters(at::kFloat), comm, half(GetParam()));
      for (int64_t step = 0; step < 3; ++step) {
        const auto gradients = odd_gradients(at::kFloat, step, comm.rank());
        model.step(gradients);
        for (const size_t i : {0, 1, 2}) {
          const auto mean = sum_over(comm, gradients[i]) / comm.size();
          const auto sizes = sum_over(comm, gradients[i].abs()) / comm.size() + model.grad(i).abs();
          const auto error = (model.grad(i) - mean).abs();
          // Sums and quotients in float32, and float16s that lie below its normal numbers.
          EXPECT_TRUE((error <= u * (1 + u) * sizes + 1e-6 * sizes + 1e-7).all().item<bool>());
          EXPECT_TRUE(is_same_everywhere(comm, model.grad(i)));
        }
      }
    });
  }
}

TEST_P(HalfTypes, AreExactOnWhatSixteenBitsHold) {
  for (const auto type : {at::kFloat, at::kDouble, at::kComplexFloat}) {
    run_ranks(4, [&](Communicator& comm) {
      CompressedModel model(odd_parameters(type), comm, half(GetParam()));
      auto gradients = odd_gradients(type, 0, comm.rank());
      for (auto& gradient : gradients) {
        auto real = gradient.is_complex() ? at::view_as_real(gradient) : gradient;
        real.mul_(30).round_();
      }
      model.step(gradients);
      for (const size_t i : {0, 2}) {
        auto sum = gradients[i].conj().resolve_conj().clone();
        comm.allreduce(sum.is_complex() ? at::view_as_real(sum) : sum).wait();
        EXPECT_TRUE(at::equal(model.grad(i), sum / 4));
      }
    });
  }
}

TEST_P(HalfTypes, LeaveSixteenBitGradientsAsTheyAre) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    run_ranks(3, [&](Communicator& comm) {
      CompressedModel model(odd_parameters(type), comm, half(GetParam()));
      CompressedModel plain(odd_parameters(type), comm, nullptr);
      for (int64_t step = 0; step < 2; ++step) {
        const auto gradients = odd_gradients(type, step, comm.rank());
        model.step(gradients);
        plain.step(gradients);
        EXPECT_TRUE(at::equal(model.grad(0), plain.grad(0)));
        EXPECT_TRUE(at::equal(model.grad(2), plain.grad(2)));
      }
      EXPECT_EQ(model.reducer.counters().compressed_steps, 2);
      EXPECT_EQ(model.reducer.counters().payload_bytes, plain.reducer.counters().payload_bytes);
    });
  }
}

TEST_P(HalfTypes, CarryWhatIsNotFiniteToAllRanksForOneStep) {
  run_ranks(3, [&](Communicator& comm) {
    CompressedModel model({parameter("p", {4}, at::kFloat)}, comm, half(GetParam()));
    const std::vector<double> odd = {1, kInfinity, kNan, -kInfinity}, ones = {1, 1, 1, 1};
    model.step({at::tensor(comm.rank() == 1 ? odd : ones, at::kDouble)});
    EXPECT_EQ(model.grad(0)[0].item<float>(), 1);
    EXPECT_EQ(model.grad(0)[1].item<float>(), kInfinity);
    EXPECT_TRUE(std::isnan(model.grad(0)[2].item<float>()));
    EXPECT_EQ(model.grad(0)[3].item<float>(), -kInfinity);
    model.step({at::ones({4})});
    EXPECT_TRUE(at::equal(model.grad(0), at::ones({4})));
  });
}

TEST_P(HalfTypes, CompressFromTheStartStepOn) {
  run_ranks(3, [&](Communicator& comm) {
    CompressedModel model(odd_parameters(at::kFloat), comm, half(GetParam(), 2));
    CompressedModel plain(odd_parameters(at::kFloat), comm, nullptr);
    for (int64_t step = 0; step < 4; ++step) {
      const auto gradients = odd_gradients(at::kFloat, step, comm.rank());
      model.step(gradients);
      plain.step(gradients);
      EXPECT_EQ(at::equal(model.grad(0), plain.grad(0)), step < 2) << step;
    }
    EXPECT_EQ(model.reducer.counters().compressed_steps, 2);
  });
}

TEST_P(HalfTypes, SumWhatTheRanksOfAModelHaveSummed) {
  run_ranks(4, [&](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    CompressedModel model(odd_parameters(at::kFloat), grid, half(GetParam()));
    CompressedModel sums(odd_parameters(at::kFloat), grid.data(), half(GetParam()));
    for (int64_t step = 0; step < 3; ++step) {
      const auto own = odd_gradients(at::kFloat, step, comm.rank());
      const auto other = odd_gradients(at::kFloat, step, comm.rank() ^ 1);
      model.step(own);
      sums.step({own[0] + other[0], own[1], own[2] + other[2]});
      for (const size_t i : {0, 2}) {
        EXPECT_TRUE(is_same_everywhere(comm, model.grad(i)));
        EXPECT_TRUE(at::allclose(model.grad(i), sums.grad(i) / 2, 1e-6, 0));
      }
    }
  });
}

TEST(HalfPrecision, KeepsSmallGradientsAndLargeSumsInFloat16) {
  for (const int ranks : {2, 3, 8}) {
    run_ranks(ranks, [](Communicator& comm) {
      // Divided first, 2^-24 would be rounded to zero; undivided, the sum would be infinite.
      const std::vector<double> values{0x1p-24, 0x1p-23, 30000, 40000, 65504};
      const auto result = reduced(comm, HalfType::float16, values, values);
      EXPECT_TRUE(at::equal(result, at::tensor(values, at::kFloat)));
    });
  }
}

TEST(HalfPrecision, OverflowsToInfinityInFloat16AloneAndOnEveryRank) {
  run_ranks(3, [](Communicator& comm) {
    EXPECT_EQ(reduced(comm, HalfType::float16, {1e6}, {0})[0].item<float>(), kInfinity);
    EXPECT_NEAR(reduced(comm, HalfType::bfloat16, {3e6}, {0})[0].item<float>(), 1e6, 8e3);
  });
}

TEST(HalfPrecision, CountsTwoBytesAValueWithoutPadding) {
  run_ranks(3, [](Communicator& comm) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      CompressedModel model(odd_parameters(type), comm, half(HalfType::bfloat16));
      model.step(odd_gradients(type, 0, comm.rank()));
      EXPECT_EQ(model.reducer.counters().payload_bytes, 2 * 36);
      EXPECT_EQ(model.reducer.counters().sent_bytes, 2 * 36 * 4 / 3);
      EXPECT_EQ(model.reducer.counters().gradient_bytes, 36 * at::elementSize(type));
    }
  });
}

TEST(HalfPrecision, TakesAccumulatedAndMissingGradients) {
  run_ranks(2, [](Communicator& comm) {
    CompressedModel model({parameter("a", {3}), parameter("b", {5})}, comm,
                          half(HalfType::bfloat16));
    const auto one = at::ones({3}, at::kDouble), two = at::full({5}, 2.0, at::kDouble);
    accumulated_step(model, {one, two}, {2 * one, two});
    EXPECT_TRUE(at::equal(model.grad(0), 3 * one));
    EXPECT_TRUE(at::equal(model.grad(1), 2 * two));
    model.step({one, comm.rank() == 0 ? two : at::Tensor()});
    EXPECT_TRUE(at::equal(model.grad(1), two / 2));
  });
}

TEST(HalfPrecision, SendsNothingInAWorldOfOne) {
  run_ranks(1, [](Communicator& comm) {
    CompressedModel model({parameter("p", {3})}, comm, half(HalfType::float16));
    const auto gradient = draw({3}, 1, 0);
    model.step({gradient});
    EXPECT_TRUE(at::equal(model.grad(0), gradient));
    EXPECT_EQ(model.reducer.counters().compressed_steps, 0);
    EXPECT_EQ(model.reducer.counters().sent_bytes, 0);
  });
}

TEST(HalfPrecision, ResumesItsScheduleFromAState) {
  run_ranks(2, [](Communicator& comm) {
    const auto compressor = half(HalfType::bfloat16, 3);
    CompressedModel model({parameter("p", {3})}, comm, compressor);
    compressor->load({{}, {{"steps", 2}}});
    for (int64_t step = 2; step < 4; ++step) model.step({draw({3}, 1, step, comm.rank())});
    EXPECT_EQ(model.reducer.counters().compressed_steps, 1);
    EXPECT_EQ(compressor->state().counts.at("steps"), 4);
    EXPECT_TRUE(compressor->state().tensors.empty());
    EXPECT_THROW(compressor->load({}), DataError);
  });
}

TEST(HalfPrecision, RefusesANegativeStep) {
  EXPECT_THROW(make_half_precision({.start_step = -1}), UsageError);
  EXPECT_NE(half(HalfType::bfloat16)->description(), half(HalfType::float16)->description());
  EXPECT_NE(half(HalfType::float16, 1)->description(), half(HalfType::float16)->description());
}

}  // namespace
}  // namespace isobar::half_precision_test
