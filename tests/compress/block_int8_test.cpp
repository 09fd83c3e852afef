// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/block_int8.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compress/block_int8_models.hpp"

namespace isobar::block_int8_test {
namespace {

using namespace test;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(BlockInt8, GivesEveryRankTheSameBitsInEveryType) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    run_ranks(ranks, [&](Communicator& comm) {
      for (const auto type :
           {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kComplexFloat}) {
        CompressedModel model(odd_parameters(type), comm, int8(), {.caps = kSmallBuckets});
        for (int64_t step = 0; step < 4; ++step) {
          model.step(odd_gradients(type, step, comm.rank()));
          for (const size_t i : {0, 2, 3}) {
            EXPECT_TRUE(is_same_everywhere(comm, model.grad(i)));
            EXPECT_GT(model.grad(i).abs().max().item<double>(), 0);
          }
        }
      }
    });
  }
}

TEST(BlockInt8, SendsNothingInAWorldOfOne) {
  run_ranks(1, [](Communicator& comm) {
    CompressedModel model(odd_parameters(at::kFloat), comm, int8());
    const auto gradients = odd_gradients(at::kFloat, 0, 0);
    model.step(gradients);
    for (const size_t i : {0, 2, 3}) EXPECT_TRUE(at::equal(model.grad(i), gradients[i]));
    EXPECT_EQ(model.reducer.counters().compressed_steps, 0);
    EXPECT_EQ(model.reducer.counters().sent_bytes, 0);
  });
}

TEST(BlockInt8, IsExactOnWhatEightBitsHold) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    run_ranks(4, [&](Communicator& comm) {
      const auto compressor = int8(8);
      CompressedModel model({parameter("p", {64}, type)}, comm, compressor);
      auto gradient = at::round(60 * draw({8, 8}, 1, 0));
      gradient.select(1, 0).fill_(127);
      model.step({gradient.flatten() / 4});
      EXPECT_TRUE(at::equal(model.grad(0), (gradient.flatten() / 4).to(type)));
      EXPECT_EQ(remembered(*compressor, "p.residual").count_nonzero().item<int64_t>(), 0);
    });
  }
}

TEST(BlockInt8, StaysWithinItsBoundInEachBlock) {
  run_ranks(2, [](Communicator& comm) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      CompressedModel model({parameter("p", {1024}, type)}, comm, int8(64));
      auto gradient = draw({16, 64}, 1, 0, comm.rank());
      gradient.slice(0, 0, 16, 2).mul_(1e-4);
      model.step({gradient.flatten()});
      const auto mean = sum_over(comm, gradient) / 2;
      const auto largest = sum_over(comm, gradient.abs().amax(1)) / 2;
      const auto error = (model.grad(0).view({16, 64}) - mean).abs().amax(1);
      EXPECT_TRUE((error <= largest / 127 * (1 + 1e-5)).all().item<bool>());
    }
  });
}

TEST(BlockInt8, RoundsShortAndComplexGradientsNoWorseThanTheirTypes) {
  run_ranks(3, [](Communicator& comm) {
    for (const auto type : {at::kBFloat16, at::kHalf, at::kComplexFloat}) {
      CompressedModel model(odd_parameters(type), comm, int8());
      const auto gradients = odd_gradients(type, 0, comm.rank());
      model.step(gradients);
      for (const size_t i : {0, 2, 3}) {
        auto sum = gradients[i].is_complex() ? gradients[i].conj().resolve_conj().clone()
                                             : gradients[i].to(at::kFloat);
        comm.allreduce(sum.is_complex() ? at::view_as_real(sum) : sum).wait();
        const double error = (model.grad(i) - sum / 3).abs().max().item<double>();
        EXPECT_LE(error, (type == at::kBFloat16 ? 0x1p-8 : 0x1p-11) + std::sqrt(2) / 127) << type;
      }
    }
  });
}

TEST(BlockInt8, SumsWhatTheRanksOfAModelHaveSummed) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    // Shares and parts hold whole blocks, so that these are the same.
    CompressedModel model({parameter("p", {256})}, grid, int8());
    CompressedModel sums({parameter("p", {256})}, grid.data(), int8());
    const auto gradient = draw({256}, 1, 0, comm.rank());
    model.step({gradient});
    sums.step({gradient + draw({256}, 1, 0, comm.rank() ^ 1)});
    EXPECT_TRUE(is_same_everywhere(comm, model.grad(0)));
    EXPECT_TRUE(at::equal(model.grad(0), sums.grad(0) / 2));
    for (int64_t step = 1; step < 5; ++step) {
      model.step({draw({256}, 1, step, comm.rank())});
      EXPECT_TRUE(is_same_everywhere(comm, model.grad(0)));
    }
  });
}

TEST(BlockInt8, CarriesWhatIsNotFiniteToAllRanksForOneStep) {
  for (const double odd : {kNan, kInfinity, -kInfinity}) {
    run_ranks(3, [&](Communicator& comm) {
      const auto compressor = int8(4);
      CompressedModel model({parameter("p", {5}, at::kFloat)}, comm, compressor);
      for (int64_t step = 0; step < 3; ++step) {
        auto gradient = draw({5}, 1, step, comm.rank());
        if (step == 1 && comm.rank() == 1) gradient[4] = odd;
        const auto before = remembered(*compressor, "p.residual");
        model.step({gradient});
        const auto residual = remembered(*compressor, "p.residual");
        EXPECT_EQ(at::isnan(model.grad(0)[4]).item<bool>(), step == 1);
        EXPECT_TRUE(at::isfinite(model.grad(0).narrow(0, 0, 4)).all().item<bool>());
        EXPECT_TRUE(at::isfinite(residual).all().item<bool>());
        // The gradient of a block that was lost is not sent later.
        if (step == 1 && comm.rank() == 1) {
          EXPECT_TRUE(at::equal(residual[4], before[4]));
        }
        // Its block reaches into the padding.
        const auto padding = model.reducer.gradients(0).slice(0, 5);
        EXPECT_EQ(padding.count_nonzero().item<int64_t>(), 0);
      }
    });
  }
}

TEST(BlockInt8, TakesAccumulatedAndMissingGradients) {
  run_ranks(2, [](Communicator& comm) {
    CompressedModel model({parameter("a", {3}), parameter("b", {5})}, comm, int8());
    const auto one = at::full({3}, 127.0, at::kDouble), two = at::full({5}, 254.0, at::kDouble);
    accumulated_step(model, {one, two}, {one, two});
    EXPECT_TRUE(at::equal(model.grad(0), 2 * one));
    EXPECT_TRUE(at::equal(model.grad(1), 2 * two));
    model.step({one, comm.rank() == 0 ? two : at::Tensor()});
    EXPECT_TRUE(at::equal(model.grad(1), two / 2));
    model.step({one, at::Tensor()});
    EXPECT_TRUE(at::equal(model.grad(1), at::zeros({5}, at::kDouble)));
  });
}

TEST(BlockInt8, CountsTheBytesOfBothStages) {
  run_ranks(4, [](Communicator& comm) {
    CompressedModel model({parameter("p", {4096}, at::kFloat)}, comm, int8(256));
    model.step({draw({4096}, 1, 0, comm.rank())});
    const int64_t bytes = 4096 + 4096 / 256 * 4;
    EXPECT_EQ(model.reducer.counters().payload_bytes, bytes + bytes / 4);
    EXPECT_EQ(model.reducer.counters().sent_bytes, 2 * bytes * 3 / 4);
    EXPECT_EQ(model.reducer.counters().gradient_bytes, 4 * 4096);
  });
}

TEST(BlockInt8, CompressesFromTheStartStepOn) {
  run_ranks(3, [](Communicator& comm) {
    const auto compressor = int8(16, 2);
    CompressedModel model(odd_parameters(at::kFloat), comm, compressor);
    CompressedModel plain(odd_parameters(at::kFloat), comm, nullptr);
    for (int64_t step = 0; step < 4; ++step) {
      const auto gradients = odd_gradients(at::kFloat, step, comm.rank());
      model.step(gradients);
      plain.step(gradients);
      const auto residual = remembered(*compressor, "matrix.residual");
      EXPECT_EQ(at::equal(model.grad(0), plain.grad(0)), step < 2) << step;
      EXPECT_EQ(residual.count_nonzero().item<int64_t>() == 0, step < 2) << step;
    }
    EXPECT_EQ(model.reducer.counters().compressed_steps, 2);
  });
}

TEST(BlockInt8, RefusesOptionsThatMakeNoSense) {
  EXPECT_THROW(make_block_int8({.block = 0}), UsageError);
  EXPECT_THROW(make_block_int8({.start_step = -1}), UsageError);
  EXPECT_NE(int8(8)->description(), int8(16)->description());
  EXPECT_NE(int8(8, 1)->description(), int8(8, 2)->description());
}

}  // namespace
}  // namespace isobar::block_int8_test
