// SPDX-License-Identifier: Apache-2.0
// What 8-bit sums still owe: the residual's algebra, its size, and its way through states.
#include <isobar/compress/block_int8.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <algorithm>

#include "compress/block_int8_models.hpp"

namespace isobar::block_int8_residual_test {
namespace {

using namespace test;

/// A parameter's residuals on all ranks, put together from their shares.
at::Tensor residuals_of_ranks(Communicator& world, const Compressor& compressor,
                              const std::string& name, int64_t elements) {
  auto whole = at::zeros({elements}, at::kDouble);
  const auto own = remembered(compressor, name + ".residual");
  if (own.defined()) {
    const int64_t first = compressor.state().counts.at(name + ".first");
    whole.narrow(0, first, own.numel()).copy_(own);
  }
  return sum_over(world, whole);
}

/// What steps should have applied to a parameter, and have.
struct Sums {
  at::Tensor wanted, applied;

  void add(const at::Tensor& mean, const at::Tensor& result) {
    wanted = wanted.defined() ? wanted + mean : mean.clone();
    applied = applied.defined() ? applied + result : result.clone();
  }
};

/// Takes steps and checks after each that nothing but what is in the residuals is missing.
void expect_balance(CompressedModel& model, Communicator& world, const Compressor& compressor,
                    int64_t steps, int64_t replan_at) {
  std::vector<Sums> sums(model.parameters.size());
  for (int64_t step = 0; step < steps; ++step) {
    if (step == replan_at) model.reducer.replan(kSmallBuckets);
    const auto gradients = odd_gradients(at::kDouble, step, world.rank());
    model.step(gradients);
    for (const size_t i : {0, 2, 3}) {
      auto& sum = sums[i];
      sum.add(sum_over(world, gradients[i]) / world.size(), model.grad(i));
      const auto residuals =
          residuals_of_ranks(world, compressor, model.parameters[i].name, gradients[i].numel());
      const auto missing = (sum.wanted - sum.applied).flatten();
      EXPECT_TRUE(at::allclose(missing, residuals / world.size(), 0, 1e-12))
          << i << " step " << step;
      EXPECT_GT(missing.abs().max().item<double>(), 0);
    }
  }
}

TEST(BlockInt8Residual, HoldsExactlyWhatWasNotApplied) {
  for (const int ranks : {2, 3, 5}) {
    run_ranks(ranks, [](Communicator& comm) {
      const auto compressor = int8();
      CompressedModel model(odd_parameters(at::kDouble), comm, compressor);
      expect_balance(model, comm, *compressor, 8, 4);
    });
  }
}

TEST(BlockInt8Residual, OwesExactlyWhatItHasNotAppliedOnAGrid) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    const auto compressor = int8();
    CompressedModel model(odd_parameters(at::kDouble), grid, compressor);
    expect_balance(model, comm, *compressor, 8, 4);
  });
}

TEST(BlockInt8Residual, OwesExactlyWhatItHasNotAppliedOfShardedParameters) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    const auto compressor = int8();
    auto list = odd_parameters(at::kDouble);
    for (auto& one : list) one.reduction = Reduction::sharded;
    CompressedModel model(list, grid, compressor);
    expect_balance(model, grid.data(), *compressor, 6, 3);
  });
}

TEST(BlockInt8Residual, KeepsItsResidualBoundedOverTenThousandSteps) {
  run_ranks(3, [](Communicator& comm) {
    const auto compressor = int8();
    CompressedModel model({parameter("p", {37}, at::kFloat)}, comm, compressor);
    double largest = 0;
    for (int64_t step = 0; step < 10'000; ++step) {
      model.step({draw({37}, 1, step, comm.rank())});
      if (step % 10 > 0) continue;
      const auto residual = remembered(*compressor, "p.residual");
      largest = std::max(largest, residual.abs().max().item<double>());
    }
    // Of |g| < 1 and its residual: this rank's error and, for owners, that of three such sums.
    EXPECT_LT(largest, (1 + 3) * 1.02 / 254);
    EXPECT_GT(largest, 1.0 / 254);
  });
}

TEST(BlockInt8Residual, ResumesFromAStateToTheBit) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    run_ranks(3, [&](Communicator& comm) {
      const auto through = int8(), later = int8();
      CompressedModel model(odd_parameters(type), comm, through);
      for (int64_t step = 0; step < 5; ++step) model.step(odd_gradients(type, step, comm.rank()));
      CompressedModel resumed(odd_parameters(type), comm, later);
      later->load(through->state());
      for (int64_t step = 5; step < 9; ++step) {
        model.step(odd_gradients(type, step, comm.rank()));
        resumed.step(odd_gradients(type, step, comm.rank()));
        for (const size_t i : {0, 2, 3}) {
          EXPECT_TRUE(at::equal(model.grad(i), resumed.grad(i)));
        }
      }
      EXPECT_EQ(through->state().counts, later->state().counts);
    });
  }
}

TEST(BlockInt8Residual, AveragesResidualsWithoutChangingWhatIsOwed) {
  run_ranks(4, [](Communicator& comm) {
    const auto compressor = int8();
    CompressedModel model(odd_parameters(at::kDouble), comm, compressor);
    for (int64_t step = 0; step < 3; ++step) {
      model.step(odd_gradients(at::kDouble, step, comm.rank()));
    }
    const auto before = residuals_of_ranks(comm, *compressor, "vector", 40);
    average_residuals(*compressor, comm);
    EXPECT_TRUE(
        at::allclose(residuals_of_ranks(comm, *compressor, "vector", 40), before, 0, 1e-15));
    EXPECT_TRUE(is_same_everywhere(comm, remembered(*compressor, "vector.residual")));
  });
}

TEST(BlockInt8Residual, RefusesAStateThatDoesNotFitAndChangesNothing) {
  run_ranks(2, [](Communicator& comm) {
    const auto compressor = int8();
    CompressedModel model(odd_parameters(at::kDouble), comm, compressor);
    model.step(odd_gradients(at::kDouble, 0, comm.rank()));
    const auto before = compressor->state();
    auto shorter = before, elsewhere = before;
    shorter.counts["steps"] = elsewhere.counts["steps"] = 77;
    shorter.tensors.back().second = at::zeros({2}, at::kDouble);
    elsewhere.counts["vector.first"] = 1;
    EXPECT_THROW(compressor->load(shorter), DataError);
    EXPECT_THROW(compressor->load(elsewhere), DataError);
    EXPECT_THROW(compressor->load({{}, {{"steps", 1}}}), DataError);
    EXPECT_EQ(compressor->state().counts, before.counts);
    const auto residual = remembered(*compressor, "vector.residual");
    EXPECT_GT(residual.count_nonzero().item<int64_t>(), 0);
    compressor->load({{{"stranger.residual", at::ones({3})}}, before.counts});
    EXPECT_EQ(remembered(*compressor, "vector.residual").count_nonzero().item<int64_t>(), 0);
  });
}

}  // namespace
}  // namespace isobar::block_int8_residual_test
