// SPDX-License-Identifier: Apache-2.0
// Nothing is lost: the sum of the true means is that of the updates and the mean residual.
#include <gtest/gtest.h>

#include <functional>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::conservation_test {
namespace {

using namespace test;

constexpr int64_t kSteps = 12;
const ReducerOptions kSmallBuckets{.caps = {.cap_bytes = 3000, .first_cap_bytes = 1000}};

class Conservation : public testing::TestWithParam<std::tuple<Method, int>> {
 protected:
  static std::shared_ptr<Compressor> compressor(LowRankOptions options = {}) {
    options.matrix_approximation_rank = 2;
    options.compare_every = 1;
    return make(std::get<0>(GetParam()), options);
  }
  /// `step` takes a step of the model with the given number.
  using Step = std::function<void(CompressedModel&, const Gradients&, int64_t, int)>;
  static void check(const LowRankOptions& options, const Gradients& gradients, const Step& step) {
    run_ranks(std::get<1>(GetParam()), [&](Communicator& comm) {
      const auto low_rank = compressor(options);
      CompressedModel model(matrices_and_dense(), comm, low_rank, kSmallBuckets);
      ConservationCheck conservation(model);
      for (int64_t s = 0; s < kSteps; ++s) {
        step(model, gradients, s, comm.rank());
        conservation.add_gradients(gradients, s, comm.size());
        conservation.add_results(model);
        conservation.expect_conserved(model, *low_rank, comm);
      }
      EXPECT_EQ(model.reducer.counters().compressed_steps, kSteps - options.start_step);
    });
  }
  static void plain_step(CompressedModel& model, const Gradients& gradients, int64_t step,
                         int rank) {
    model.step(gradients(step, rank));
  }
};
INSTANTIATE_TEST_SUITE_P(All, Conservation, testing::Combine(kMethods, testing::Values(2, 3, 4)));

TEST_P(Conservation, HoldsInEachStep) {
  check({.start_step = 0}, random_gradients(matrices_and_dense()), plain_step);
}

TEST_P(Conservation, HoldsFromTheStepOnThatIsCompressed) {
  check({.start_step = 5}, random_gradients(matrices_and_dense()), plain_step);
}

TEST_P(Conservation, HoldsWhereFactorsStartAnew) {
  check({.start_step = 0, .refresh_every = 3}, random_gradients(matrices_and_dense()), plain_step);
}

TEST_P(Conservation, HoldsWhereBucketsChange) {
  check({.start_step = 0}, random_gradients(matrices_and_dense()),
        [](CompressedModel& model, const Gradients& gradients, int64_t step, int rank) {
          const int64_t caps[] = {100, 1'000'000, 5000};
          if (step % 3 == 1) {
            model.reducer.replan({.cap_bytes = caps[step % 9 / 3], .first_cap_bytes = 100});
          }
          plain_step(model, gradients, step, rank);
        });
}

TEST_P(Conservation, HoldsWhereGradientsAreAccumulated) {
  check({.start_step = 0}, random_gradients(matrices_and_dense()),
        [](CompressedModel& model, const Gradients& gradients, int64_t step, int rank) {
          auto part = gradients(step, rank), rest = part;
          for (size_t p = 0; p < part.size(); ++p) {
            part[p] = draw(part[p].sizes(), 17 + p, step, rank);
            rest[p] = rest[p] - part[p];
          }
          model.reducer.zero_grad();
          {
            const auto scope = model.reducer.accumulate();
            model.backward(part);
          }
          model.backward(rest);
          model.reducer.finish();
        });
}

TEST_P(Conservation, HoldsWhereParametersAreUnusedOnSomeRanks) {
  const auto all = random_gradients(matrices_and_dense());
  const Gradients some = [all](int64_t step, int rank) {
    auto gradients = all(step, rank);
    for (size_t p = 1; p < gradients.size(); ++p) {
      if ((step + rank + static_cast<int64_t>(p)) % 3 == 0) gradients[p] = at::Tensor();
    }
    if (rank == 1) gradients[3] = at::Tensor();  // never there
    if (step > 6) gradients[1] = at::Tensor();   // no longer anywhere
    return gradients;
  };
  check({.start_step = 0}, some, plain_step);
}

}  // namespace
}  // namespace isobar::conservation_test
