// SPDX-License-Identifier: Apache-2.0
#include "comm/rendezvous.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/launch/endpoint.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <future>
#include <string>

#include "comm/expect_error.hpp"
#include "comm/stranger.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::rendezvous_test {
namespace {

LaunchEnvironment by_hand(int rank, int size) {
  return {.launcher = "torchrun", .rank = rank, .size = size};
}

TEST(WorldsOfThreads, AreMadeByOneThreadAtATime) {
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "127.0.0.1"},
                                                {"MASTER_PORT", std::to_string(free_port())},
                                                {"WORLD_SIZE", "2"},
                                                {"RANK", "0"}});
  const auto failure = [] {
    return std::async(std::launch::async, [] {
      try {
        make_communicator({.start_timeout = std::chrono::seconds(2)});
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string();
    });
  };
  auto one = failure();
  auto other = failure();
  const auto both = one.get() + "\n" + other.get();
  expect_contains(both, "rank 0 of 2: another thread of this process is making a world");
  expect_contains(both, "rank 1 has not come in 2 s");
}
std::future<Rendezvous> meeting(int rank, int size) {
  return std::async(std::launch::async, [=] {
    CommunicatorOptions options;
    options.start_timeout = std::chrono::seconds(20);
    EarlierWorlds earlier;
    return meet(by_hand(rank, size), options, false, earlier);
  });
}

TEST(Rendezvous, GivesEachWorldATokenOfItsOwn) {
  const ScopedEnvironment environment(
      Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", std::to_string(free_port())}});
  std::string last;
  for (int i = 0; i < 2; ++i) {
    auto ranks = std::array{meeting(0, 2), meeting(1, 2)};
    const auto token = ranks[0].get().token;
    EXPECT_EQ(ranks[1].get().token, token);
    EXPECT_NE(token, last);
    last = token;
  }
}

TEST(Rendezvous, MeetsOverIpv6AndUnderTheSecondNameOfAHost) {
  for (const char* address : {"::1", "127.0.1.1"}) {
    const ScopedEnvironment environment(
        Variables{{"MASTER_ADDR", address}, {"MASTER_PORT", std::to_string(free_port())}});
    auto rank_1 = meeting(1, 2);
    auto rank_0 = meeting(0, 2);
    EXPECT_EQ(rank_1.get().token, rank_0.get().token);
  }
}

TEST(Rendezvous, MeetsBesideTheAgentOfTorchrunThatHoldsTheMastersPort) {
  const ControlListener agent;
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "127.0.0.1"},
                                                {"MASTER_PORT", std::to_string(agent.port())},
                                                {"TORCHELASTIC_RUN_ID", "none"},
                                                {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  auto rank_0 = meeting(0, 2);
  auto rank_1 = meeting(1, 2);
  EXPECT_EQ(rank_1.get().token, rank_0.get().token);
}

TEST(Rendezvous, SaysThatRank0IsThereTwiceWhereItWasExportedOnce) {
  const ScopedEnvironment environment(
      Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", std::to_string(free_port())}});
  auto one = meeting(0, 2);
  auto other = meeting(0, 2);
  const auto text = error_of<UsageError>([&] { one.get(); });
  expect_contains(text, "rank 0 of 2 is there twice, on ");
  EXPECT_EQ(error_of<UsageError>([&] { other.get(); }), text);
}

TEST(Rendezvous, NamesAPortThatAStrangerHas) {
  const int port = free_port();
  const Stranger stranger(port);
  const ScopedEnvironment environment(
      Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", std::to_string(port)}});
  const auto text = error_of<CommError>([] { meeting(0, 2).get(); });
  expect_contains(text, "cannot listen on port " + std::to_string(port));
  expect_contains(text, "Address already in use; set MASTER_ADDR, and MASTER_PORT");
}

TEST(Rendezvous, PassesOverAPortOfAStepThatAStrangerHas) {
  const ScopedEnvironment environment(Variables{{"SLURM_STEP_NODELIST", "127.0.0.1"},
                                                {"SLURM_JOB_ID", std::to_string(getpid())},
                                                {"SLURM_STEP_ID", "0"}});
  const Stranger stranger(read_endpoint(by_hand(0, 2)).port);
  auto rank_0 = meeting(0, 2);
  auto rank_1 = meeting(1, 2);
  EXPECT_EQ(rank_1.get().token, rank_0.get().token);
}

TEST(Rendezvous, SaysWhatIsMissingWhereNothingNamesRankZero) {
  const ScopedEnvironment environment(Variables{{"RANK", "1"}, {"WORLD_SIZE", "2"}});
  expect_contains(error_of<UsageError>([] { make_communicator({.backend = "gloo"}); }),
                  "set MASTER_ADDR and MASTER_PORT");
}

TEST(Survivors, CannotGoOnWithBackendsThatNeedEveryRank) {
  const ScopedEnvironment environment(Variables{{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  const auto refusal = [](const CommunicatorOptions& options, const SurvivorOptions& survivors) {
    return error_of<UsageError>([&] { make_survivors_communicator(options, survivors); });
  };
  expect_contains(refusal({.backend = "mpi"}, {}), "mpi cannot go on without a lost rank");
  expect_contains(refusal({.backend = "nccl"}, {}), "NCCL's ranks cannot go on");
  expect_contains(refusal({.device = "cuda"}, {}), "NCCL's ranks cannot go on");
  expect_contains(refusal({}, {.generation = 0}), "generation must be 1 or more, got 0");
  expect_contains(refusal({.start_timeout = std::chrono::seconds(10)}, {}),
                  "settle must be shorter than start_timeout, got 10000 ms of 10000 ms");
  expect_contains(refusal({}, {.expected = 3}), "expected 3 survivors of 2 ranks");
  expect_contains(refusal({}, {}), "set MASTER_ADDR and MASTER_PORT");
}

}  // namespace
}  // namespace isobar::test::rendezvous_test
