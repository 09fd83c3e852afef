// SPDX-License-Identifier: Apache-2.0
// Over many steps: residuals of each rank's own factor stay, those of the average grow.
#include <gtest/gtest.h>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/plain_low_rank.hpp"
#include "compress/world.hpp"

namespace isobar::bounded_residual_test {
namespace {

using namespace test;

constexpr int kRanks = 3;
constexpr int64_t kRows = 12, kColumns = 10, kSteps = 10'000;

/// A fixed mean and noise.
at::Tensor gradient(int64_t step, int rank) {
  return draw({kRows, kColumns}, 1, 0) + draw({kRows, kColumns}, 2, step, rank);
}

/// The mean norm in the steps 1,000 to 2,000 and 9,000 to 10,000.
struct Norms {
  void add(int64_t step, double norm) {
    if (step >= 1000 && step < 2000) early += norm / 1000;
    if (step >= 9000) late += norm / 1000;
  }
  double early = 0, late = 0;
};

/// Without a reducer, which would take most of the time.
Norms norms_of(Method method) {
  Norms norms;
  run_ranks(kRanks, [&](Communicator& comm) {
    const auto compressor = make(method, {.matrix_approximation_rank = 2, .start_step = 0});
    const auto values = at::zeros({kRows * kColumns}, at::kDouble);
    const BucketPiece piece{values, {{0, 0, 0, kRows * kColumns, kColumns}}, kRanks};
    compressor->set_plan({parameter("weight", {kRows, kColumns})}, {piece}, nullptr);
    Traffic traffic;
    BucketChannel channel(comm, {}, traffic, {});
    for (int64_t step = 0; step < kSteps; ++step) {
      values.copy_(gradient(step, comm.rank()).view({-1}));
      ASSERT_TRUE(compressor->begin_step());
      for (int s = 0; s < compressor->stages(); ++s) compressor->start(0, s, channel).wait();
      compressor->complete(0);
      if (comm.rank() != 0 || step < 1000 || (step >= 2000 && step < 9000)) continue;
      norms.add(step, remembered(*compressor, "weight.residual").norm().item<double>());
    }
  });
  return norms;
}

/// PyTorch's residual: what is missing in the average of all ranks.
Rows average_form_step(PlainLowRank& plain, const std::vector<Rows>& gradients) {
  std::vector<Rows> owed;
  for (size_t i = 0; i < gradients.size(); ++i) {
    owed.push_back(plus(gradients[i], 1, plain.residuals[i]));
  }
  const Rows update = plain.power_step(gradients);
  for (size_t i = 0; i < owed.size(); ++i) plain.residuals[i] = plus(owed[i], -1, update);
  return update;
}

std::vector<Rows> all_gradients(int64_t step) {
  std::vector<Rows> gradients;
  for (int r = 0; r < kRanks; ++r) gradients.push_back(rows_of(gradient(step, r)));
  return gradients;
}

PlainLowRank make_plain() {
  return PlainLowRank(kRanks, kRows, kColumns, rows_of(draw({kColumns, 2}, 9, 0)));
}

class BoundedResidual : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, BoundedResidual, kMethods);

TEST_P(BoundedResidual, OverTenThousandSteps) {
  const Norms norms = norms_of(GetParam());
  EXPECT_GT(norms.early, 1);
  EXPECT_LT(norms.late, 1.5 * norms.early);
}

TEST(AverageResidual, GrowsLikeTheRootOfTheSteps) {
  auto plain = make_plain();
  Norms norms;
  for (int64_t step = 0; step < kSteps; ++step) {
    average_form_step(plain, all_gradients(step));
    double square = 0;
    for (const auto& row : plain.residuals[0]) {
      for (const double value : row) square += value * value;
    }
    norms.add(step, std::sqrt(square));
  }
  EXPECT_GT(norms.late, 2 * norms.early);
}

TEST(AverageResidual, GivesTheSameUpdates) {
  auto own = make_plain(), average = make_plain();
  for (int64_t step = 0; step < 20; ++step) {
    const auto gradients = all_gradients(step);
    const Rows a = own.power_step(gradients), b = average_form_step(average, gradients);
    for (size_t i = 0; i < a.size(); ++i) {
      for (size_t j = 0; j < a[i].size(); ++j) EXPECT_NEAR(a[i][j], b[i][j], 1e-12) << step;
    }
  }
}

}  // namespace
}  // namespace isobar::bounded_residual_test
