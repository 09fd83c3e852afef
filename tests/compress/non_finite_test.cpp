// SPDX-License-Identifier: Apache-2.0
// An infinity or NaN shows on every rank in the step that has it, and in no later one.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::non_finite_test {
namespace {

using namespace test;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

bool is_finite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

/// Method, type, the step in which it comes, what comes.
class NonFinite
    : public testing::TestWithParam<std::tuple<Method, at::ScalarType, int64_t, double>> {
 protected:
  static Method method() { return std::get<0>(GetParam()); }
  static at::ScalarType type() { return std::get<1>(GetParam()); }
  static int64_t when() { return std::get<2>(GetParam()); }
  static double value() { return std::get<3>(GetParam()); }
  static std::shared_ptr<Compressor> compressor() {
    return make(method(), {.matrix_approximation_rank = 2, .start_step = 0, .compare_every = 1});
  }
};
INSTANTIATE_TEST_SUITE_P(All, NonFinite,
                         testing::Combine(kMethods, testing::Values(at::kFloat, at::kDouble),
                                          testing::Values(0, 3, 4),
                                          testing::Values(kInfinity, -kInfinity, kNaN)));

TEST_P(NonFinite, GradientOnOneRankShowsOnEveryRankAndDoesNotStay) {
  run_ranks(3, [&](Communicator& comm) {
    const auto low_rank = compressor(), healthy = compressor();
    CompressedModel model(matrices_and_dense(type()), comm, low_rank);
    CompressedModel twin(matrices_and_dense(type()), comm, healthy);
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 12; ++step) {
      auto given = gradients(step, comm.rank());
      twin.step(given);
      if (step == when() && comm.rank() == 1) given[0][3][5] = value();
      model.step(given);
      if (step == when()) {
        EXPECT_TRUE(at::isnan(model.grad(0)).all().item<bool>());
      } else {
        EXPECT_TRUE(is_finite(model.grad(0))) << step;
      }
      for (size_t p = 1; p < given.size(); ++p) EXPECT_TRUE(at::equal(model.grad(p), twin.grad(p)));
      const auto residual = remembered(*low_rank, "square.residual");
      EXPECT_TRUE(is_finite(residual)) << step;
      const auto usual = remembered(*healthy, "square.residual");
      EXPECT_LT(residual.norm().item<double>(), 3 * usual.norm().item<double>() + 3);
    }
  });
}

TEST_P(NonFinite, GradientsOfWholeMatricesOnAllRanksDoNotStay) {
  run_ranks(2, [&](Communicator& comm) {
    const auto low_rank = compressor();
    CompressedModel model(matrices_and_dense(type()), comm, low_rank);
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 8; ++step) {
      auto given = gradients(step, comm.rank());
      if (step == when()) given[1].fill_(value());
      model.step(given);
      EXPECT_EQ(is_finite(model.grad(1)), step != when()) << step;
    }
    // What was compressed since then is no less than usual.
    EXPECT_GT(model.grad(1).norm().item<double>(), 1);
    EXPECT_TRUE(is_finite(remembered(*low_rank, "wide.residual")));
  });
}

TEST_P(NonFinite, DenseValueShowsWhereItIsAlone) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel model(matrices_and_dense(type()), comm, compressor());
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 6; ++step) {
      auto given = gradients(step, comm.rank());
      if (step == when() && comm.rank() == 0) given[2][4] = value();
      model.step(given);
      for (size_t p = 0; p < given.size(); ++p) {
        EXPECT_EQ(is_finite(model.grad(p)), p != 2 || step != when()) << step << " " << p;
      }
    }
  });
}

// Finite gradients whose products with the basis, here of equal numbers, are not.
TEST_P(NonFinite, OverflowDoesNotStayEither) {
  const int64_t overflow = std::max<int64_t>(3, when());  // the first basis is random
  const double huge = type() == at::kFloat ? 3e38 : 1.5e308;
  run_ranks(2, [&](Communicator& comm) {
    const auto low_rank = make(method(), {.matrix_approximation_rank = 1, .start_step = 0});
    CompressedModel model({parameter("weight", {12, 10}, type())}, comm, low_rank);
    for (int64_t step = 0; step < 8; ++step) {
      const bool overflows = step == overflow && comm.rank() == 0;
      model.step({at::full({12, 10}, overflows ? huge : 1.0, at::kDouble)});
      EXPECT_TRUE(is_finite(remembered(*low_rank, "weight.residual"))) << step;
      EXPECT_EQ(is_finite(model.grad(0)), step != overflow) << step;
    }
  });
}

}  // namespace
}  // namespace isobar::non_finite_test
