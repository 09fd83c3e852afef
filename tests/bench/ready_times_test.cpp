// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/ready_times.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/thread_world.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

namespace isobar::bench::ready_times_test {
namespace {

at::Tensor leaf() { return at::ones({64, 64}).set_requires_grad(true); }

TEST(ReadyTimes, RiseFromTheLastLayerToTheFirst) {
  const auto first = leaf(), second = leaf();
  ReadyTimes ready({first, second});
  const auto loss = at::matmul(at::matmul(at::ones({64, 64}), first), second).sum();
  ready.restart();
  loss.backward();
  EXPECT_GT(ready.seconds()[1], 0);
  EXPECT_GT(ready.seconds()[0], ready.seconds()[1]);
  EXPECT_EQ(ready.last_s(), ready.seconds()[0]);
  EXPECT_GE(ready.since_last_s(), 0);
}

TEST(ReadyTimes, AreZeroForWhatHasNoGradientAndStartAgain) {
  const auto used = leaf(), unused = leaf();
  ReadyTimes ready({used, unused});
  used.sum().backward();
  EXPECT_GT(ready.seconds()[0], 0);
  EXPECT_EQ(ready.seconds()[1], 0);
  ready.restart();
  EXPECT_EQ(ready.seconds()[0], 0);
}

TEST(ReadyTimes, LeaveNoHookBehind) {
  const auto parameter = leaf();
  { const ReadyTimes ready({parameter}); }
  parameter.sum().backward();
  EXPECT_TRUE(at::equal(parameter.grad(), at::ones({64, 64})));
}

TEST(ComputeProfile, IsTheSameOnEveryRankAndInTheOrderOfABackwardPass) {
  std::vector<ComputeProfile> profiles(2);
  run_ranks(2, [&](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::all_gather);
    const auto work = make_linear_stack({.layers = 3, .width = 64, .batch = 16}, comm.rank());
    profiles[comm.rank()] = profile_compute(*subject, work, 3);
  });
  EXPECT_EQ(profiles[0].ready_s, profiles[1].ready_s);
  ASSERT_EQ(profiles[0].ready_s.size(), 6u);
  EXPECT_GT(profiles[0].forward_s, 0);
  EXPECT_LT(profiles[0].ready_s[4], profiles[0].ready_s[0]);
  EXPECT_LE(profiles[0].ready_s[0], profiles[0].backward_s);
}

TEST(ComputeProfile, IsShortenedToWhatTheStepsTook) {
  const ComputeProfile profile{.forward_s = 1, .backward_s = 4, .ready_s = {4, 2}};
  const auto shorter = no_slower_than(profile, 2, 2);
  EXPECT_EQ(shorter.forward_s, 1);
  EXPECT_EQ(shorter.backward_s, 2);
  EXPECT_EQ(shorter.ready_s, (std::vector<double>{2, 1}));
  const auto same = no_slower_than(profile, 0.5, 5);
  EXPECT_EQ(same.forward_s, 0.5);
  EXPECT_EQ(same.ready_s, profile.ready_s);
}

}  // namespace
}  // namespace isobar::bench::ready_times_test
