// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/step_check.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/thread_world.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isobar::bench::step_check_test {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

/// What every rank finds where each has gradients of rank + 1, and `got` says what came out.
Deviation found(int ranks, const std::function<at::Tensor(int rank)>& got) {
  Deviation result;
  run_ranks(ranks, [&](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    const auto own = at::full({5}, comm.rank() + 1.0, at::kFloat);
    const auto one = deviation_from_mean(*subject, {got(comm.rank())}, {own});
    if (comm.rank() == 0) result = one;
  });
  return result;
}

TEST(StepCheck, AcceptsTheMean) {
  const auto result = found(3, [](int) { return at::full({5}, 2.0, at::kFloat); });
  EXPECT_EQ(result.largest, 0);
  EXPECT_EQ(result.beyond_rounding, 0);
}

TEST(StepCheck, AllowsWhatAnOrderOfSummationExplains) {
  const auto next = std::nextafter(2.0f, 3.0f);
  const auto result = found(3, [&](int) { return at::full({5}, next, at::kFloat); });
  EXPECT_EQ(result.largest, next - 2.0);
  EXPECT_EQ(result.beyond_rounding, 0);
}

TEST(StepCheck, FindsOneWrongValueOnOneRank) {
  const auto result = found(3, [](int rank) {
    auto got = at::full({5}, 2.0, at::kFloat);
    if (rank == 2) got[4] = 2.001;
    return got;
  });
  EXPECT_NEAR(result.largest, 0.001, 1e-6);
  EXPECT_EQ(result.beyond_rounding, result.largest);
}

TEST(StepCheck, FindsASumThatWasNotDivided) {
  const auto result = found(2, [](int) { return at::full({5}, 3.0, at::kFloat); });
  EXPECT_EQ(result.beyond_rounding, 1.5);
}

TEST(StepCheck, TakesWhatIsNotFiniteForTheLargestError) {
  for (const double value : {std::nan(""), static_cast<double>(INFINITY)}) {
    const auto result = found(2, [&](int) { return at::full({5}, value, at::kFloat); });
    EXPECT_EQ(result.beyond_rounding, kLargest);
  }
}

TEST(StepCheck, IsNotContentWithInfinityOnAllRanks) {
  run_ranks(2, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    const auto infinite = at::full({5}, INFINITY, at::kFloat);
    EXPECT_EQ(deviation_from_mean(*subject, {infinite}, {infinite}).beyond_rounding, kLargest);
  });
}

TEST(StepCheck, ComparesWithTheRanksOwnWhereNothingIsAveraged) {
  run_ranks(2, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    const auto own = at::full({5}, comm.rank() + 1.0, at::kFloat);
    EXPECT_EQ(deviation_from_own(*subject, {own}, {own}).beyond_rounding, 0);
    const auto mean = at::full({5}, 1.5, at::kFloat);
    EXPECT_EQ(deviation_from_own(*subject, {mean}, {own}).beyond_rounding, 0.5);
  });
}

TEST(StepCheck, SeesOneBitThatRanksDifferIn) {
  run_ranks(3, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    auto values = at::ones({7});
    EXPECT_TRUE(same_on_all_ranks(*subject, {at::zeros({2}), values}));
    if (comm.rank() == 1) values[6] = std::nextafter(1.0f, 2.0f);
    EXPECT_FALSE(same_on_all_ranks(*subject, {at::zeros({2}), values}));
  });
}

TEST(StepCheck, TakesAMissingGradientForZeros) {
  auto with = at::ones({2, 2}).set_requires_grad(true);
  auto without = at::ones({3}).set_requires_grad(true);
  with.mutable_grad() = at::full({2, 2}, 4.0);
  const auto gradients = gradients_of({with, without});
  EXPECT_TRUE(at::equal(gradients[0], at::full({4}, 4.0)));
  EXPECT_TRUE(at::equal(gradients[1], at::zeros({3})));
}

}  // namespace
}  // namespace isobar::bench::step_check_test
