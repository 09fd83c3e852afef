// SPDX-License-Identifier: Apache-2.0
// Where low-rank factors lose nothing, and what becomes of nothing.
#include <gtest/gtest.h>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::exactness_test {
namespace {

using namespace test;

constexpr int kRanks = 3;

/// Gradients whose mean is `mean` in every step while each rank's own is another matrix.
Gradients around(const at::Tensor& mean) {
  return [mean](int64_t step, int rank) {
    const auto sizes = mean.sizes();
    const int next = (rank + 1) % kRanks;
    return std::vector<at::Tensor>{mean + draw(sizes, 5, step, rank) - draw(sizes, 5, step, next)};
  };
}

at::Tensor of_rank(int64_t rank, int64_t rows, int64_t columns) {
  return at::mm(draw({rows, rank}, 1, 0), draw({rank, columns}, 2, 0));
}

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

/// Calls check(step, update, sum of updates) on rank 0.
template <typename Check>
void run(Method method, const LowRankOptions& options, int64_t rows, int64_t columns, int64_t steps,
         const Gradients& gradients, const Check& check) {
  run_ranks(kRanks, [&](Communicator& comm) {
    const auto compressor = make(method, options);
    CompressedModel model({parameter("weight", {rows, columns})}, comm, compressor);
    auto sum = at::zeros({rows, columns}, at::kDouble);
    for (int64_t step = 0; step < steps; ++step) {
      model.step(gradients(step, comm.rank()));
      sum += model.grad(0);
      if (comm.rank() == 0) check(step, model.grad(0), sum);
    }
    EXPECT_EQ(model.reducer.counters().compressed_steps, steps);
    EXPECT_TRUE(remembered(*compressor, "weight.residual").defined());
  });
}

// The sum of the ranks' matrices, residuals included, has the columns of the mean, and so P spans
// them: the update is the mean at once and the residuals' sum stays zero, though not each of them.
TEST(PowerSgdExactness, OfAMeanOfLowRankComesAtOnce) {
  const auto mean = of_rank(3, 20, 17);
  run(Method::power, {.matrix_approximation_rank = 3, .start_step = 0}, 20, 17, 12, around(mean),
      [&](int64_t step, const at::Tensor& update, const at::Tensor&) {
        EXPECT_LT(largest(update - mean), 1e-11) << step;
      });
}

// A first step has a random Q and leaves a residual. The next has a P that spans the mean's
// columns, and those of the residuals' sum with it: it pays all that is owed, M + (M - M Q Qᵀ),
// whose rows span another space than those of M. So steps that compute P stay inexact, by ever
// less (the tangent t of an angle becomes t / (1 + 2t²)), and each step that computes Q settles.
TEST(AcpSgdExactness, OfAMeanOfLowRankComesWithEverySecondStep) {
  const auto mean = of_rank(3, 20, 17);
  double before = 1e9;
  run(Method::acp, {.matrix_approximation_rank = 3, .start_step = 0}, 20, 17, 40, around(mean),
      [&](int64_t step, const at::Tensor& update, const at::Tensor& sum) {
        if (step % 2 == 1) {
          EXPECT_LT(largest(sum - static_cast<double>(step + 1) * mean), 1e-10) << step;
          return;
        }
        const double error = (update - mean).norm().item<double>();
        EXPECT_LT(error, before);
        if (step > 30) {
          EXPECT_LT(error, 0.35 * mean.norm().item<double>());
        }
        before = error;
      });
}

const LowRankOptions kFull{
    .matrix_approximation_rank = 9, .start_step = 0, .min_compression_rate = 1e-6};

TEST(PowerSgdExactness, OfFactorsAsWideAsTheMatrixIsComplete) {
  for (const auto& [rows, columns] : {std::pair{9, 9}, std::pair{7, 12}, std::pair{12, 7}}) {
    const auto gradients = random_gradients({parameter("weight", {rows, columns})});
    run(Method::power, kFull, rows, columns, 8, gradients,
        [&, n = rows, m = columns](int64_t step, const at::Tensor& update, const at::Tensor&) {
          const auto mean = mean_gradient(gradients, step, kRanks, 0, {n, m});
          EXPECT_LT(largest(update - mean), 1e-12);
        });
  }
}

// Of the two bases only one is square, and with it nothing is left over.
TEST(AcpSgdExactness, OfFactorsAsWideAsTheMatrixIsCompleteWhereTheBasisIsSquare) {
  for (const auto& [rows, columns] : {std::pair{9, 9}, std::pair{7, 12}, std::pair{12, 7}}) {
    const auto gradients = random_gradients({parameter("weight", {rows, columns})});
    auto total = at::zeros({rows, columns}, at::kDouble);
    std::vector<at::Tensor> totals;
    for (int64_t step = 0; step < 8; ++step) {
      total = total + mean_gradient(gradients, step, kRanks, 0, {rows, columns});
      totals.push_back(total);
    }
    run(Method::acp, kFull, rows, columns, 8, gradients,
        [&, n = rows, m = columns](int64_t step, const at::Tensor&, const at::Tensor& sum) {
          const bool is_square = n == m || (step % 2 == 0) == (m < n);
          if (is_square) {
            EXPECT_LT(largest(sum - totals[step]), 1e-12);
          }
        });
  }
}

class Zeros : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, Zeros, kMethods);

TEST_P(Zeros, StayZeros) {
  run(
      GetParam(), {.matrix_approximation_rank = 2, .start_step = 0}, 12, 10, 8,
      [](int64_t, int) {
        return std::vector<at::Tensor>{at::zeros({12, 10}, at::kDouble)};
      },
      [](int64_t, const at::Tensor& update, const at::Tensor&) { EXPECT_EQ(largest(update), 0); });
}

TEST_P(Zeros, LetWhatIsOwedBePaid) {
  const auto first = draw({12, 10}, 3, 0);
  run(
      GetParam(), {.matrix_approximation_rank = 2, .start_step = 0}, 12, 10, 200,
      [&](int64_t step, int) {
        return std::vector<at::Tensor>{step == 0 ? first : at::zeros_like(first)};
      },
      [&](int64_t step, const at::Tensor& update, const at::Tensor& sum) {
        EXPECT_TRUE(at::isfinite(update).all().item<bool>());
        if (step == 199) {
          EXPECT_LT(largest(sum - first), 1e-3);
        }
      });
}

// Of a sum that is zero any basis will do, but not one in which a gradient has nothing forever.
TEST_P(Zeros, DoNotHideGradientsThatHaveZerosInTheirFirstRowsAndColumns) {
  auto later = of_rank(2, 12, 10);
  later.narrow(0, 0, 4).zero_();
  later.narrow(1, 0, 4).zero_();
  run(
      GetParam(), {.matrix_approximation_rank = 2, .start_step = 0}, 12, 10, 12,
      [&](int64_t step, int) {
        return std::vector<at::Tensor>{step < 2 ? at::zeros_like(later) : later};
      },
      [&](int64_t step, const at::Tensor&, const at::Tensor& sum) {
        if (step == 11) {
          EXPECT_LT(largest(sum - 10 * later), 1e-10);
        }
      });
}

// Gradients far from 1, as those of a network that diverges, or that learned all there is.
TEST_P(Zeros, AndInfinityAreFarAway) {
  for (const double scale : {1e-25, 1e25}) {
    run_ranks(2, [&](Communicator& comm) {
      CompressedModel model({parameter("weight", {12, 10}, at::kFloat)}, comm,
                            make(GetParam(), {.matrix_approximation_rank = 2, .start_step = 0}));
      const auto gradient = of_rank(2, 12, 10);
      auto sum = at::zeros({12, 10}, at::kDouble);
      for (int step = 0; step < 4; ++step) {
        model.step({gradient * scale});
        sum += model.grad(0).to(at::kDouble) / scale;
      }
      EXPECT_LT(largest(sum - 4 * gradient), 1e-4) << scale;
    });
  }
}

}  // namespace
}  // namespace isobar::exactness_test
