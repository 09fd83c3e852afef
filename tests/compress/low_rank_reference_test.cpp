// SPDX-License-Identifier: Apache-2.0
// The production path against the algorithms in plain loops, in float64, step by step.
#include <gtest/gtest.h>

#include "compress/low_rank_buckets.hpp"
#include "compress/methods.hpp"
#include "compress/plain_low_rank.hpp"
#include "compress/world.hpp"

namespace isobar::low_rank_reference_test {
namespace {

using namespace test;

constexpr int kSteps = 20;

struct Shape {
  std::string name;
  int64_t rows, columns;
};
const std::vector<Shape> kShapes = {
    {"square", 40, 40}, {"wide", 13, 70}, {"tall", 70, 13}, {"same as square", 40, 40}};

/// The rank's gradients of a step: the matrices' and, last, a vector's.
std::vector<at::Tensor> gradients_of(int64_t step, int64_t rank) {
  std::vector<at::Tensor> gradients;
  for (const auto& shape : kShapes) {
    const auto seed = fnv1a(shape.name);
    gradients.push_back(draw({shape.rows, shape.columns}, seed, step, rank));
  }
  gradients.push_back(draw({9}, 1, step, rank));
  return gradients;
}

std::vector<NamedParameter> parameters() {
  std::vector<NamedParameter> list;
  for (const auto& shape : kShapes)
    list.push_back(parameter(shape.name, {shape.rows, shape.columns}));
  list.push_back(parameter("vector", {9}));
  return list;
}

/// Each step's update and residuals of matrix `s`, from plain loops.
struct Expected {
  std::vector<Rows> updates;
  std::vector<std::vector<Rows>> residuals;  ///< by step and rank
};

Expected expected(Method method, size_t s, int ranks, int64_t rank) {
  const auto& shape = kShapes[s];
  const auto first =
      random_factor({rank, shape.columns}, 0, shape.name + " 0", 0, at::TensorOptions(at::kDouble));
  PlainLowRank plain(ranks, shape.rows, shape.columns, rows_of(first.t()));
  Expected result;
  for (int64_t step = 0; step < kSteps; ++step) {
    std::vector<Rows> gradients;
    for (int r = 0; r < ranks; ++r) gradients.push_back(rows_of(gradients_of(step, r)[s]));
    result.updates.push_back(method == Method::acp ? plain.acp_step(gradients)
                                                   : plain.power_step(gradients));
    result.residuals.push_back(plain.residuals);
  }
  return result;
}

class LowRankReference : public testing::TestWithParam<std::tuple<Method, int, int64_t>> {};

TEST_P(LowRankReference, ProductionPathTakesTheSameSteps) {
  const auto [method, ranks, rank] = GetParam();
  std::vector<Expected> plain;
  for (size_t s = 0; s < kShapes.size(); ++s) plain.push_back(expected(method, s, ranks, rank));
  run_ranks(ranks, [&, method = method, rank = rank](Communicator& comm) {
    const auto compressor =
        make(method, {.matrix_approximation_rank = rank, .start_step = 0, .compare_every = 1});
    CompressedModel model(parameters(), comm, compressor,
                          {.caps = {.cap_bytes = 20'000, .first_cap_bytes = 5'000}});
    for (int64_t step = 0; step < kSteps; ++step) {
      model.step(gradients_of(step, comm.rank()));
      for (size_t s = 0; s < kShapes.size(); ++s) {
        const auto residual = remembered(*compressor, kShapes[s].name + ".residual");
        EXPECT_LT(largest_difference(plain[s].updates[step], model.grad(s)), 1e-10)
            << kShapes[s].name << " step " << step;
        EXPECT_LT(largest_difference(plain[s].residuals[step][comm.rank()], residual), 1e-10);
      }
      auto mean = at::zeros({9}, at::kDouble);
      for (int r = 0; r < comm.size(); ++r) mean += gradients_of(step, r).back();
      EXPECT_TRUE(at::allclose(model.grad(kShapes.size()), mean / comm.size(), 1e-14, 1e-14));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, LowRankReference,
                         testing::Combine(kMethods, testing::Values(2, 3, 4),
                                          testing::Values<int64_t>(1, 3, 4)));

}  // namespace
}  // namespace isobar::low_rank_reference_test
