// SPDX-License-Identifier: Apache-2.0
#include "comm/rendezvous.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/launch/endpoint.hpp>
#include <gtest/gtest.h>
#include <sys/wait.h>
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

/// The first world of a process.
Rendezvous meet_first(int rank, int size, std::chrono::seconds start_timeout) {
  EarlierWorlds earlier;
  return meet(by_hand(rank, size), {.start_timeout = start_timeout}, false, earlier);
}

std::future<Rendezvous> meeting(int rank, int size) {
  return std::async(std::launch::async,
                    [=] { return meet_first(rank, size, std::chrono::seconds(20)); });
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

TEST(Rendezvous, GivesALargeWorldMoreTimeToStart) {
  using std::chrono::seconds;
  EXPECT_EQ(start_limit(seconds(120), 2048), seconds(360));
  EXPECT_EQ(start_limit(seconds(120), 4096), seconds(600));
  EXPECT_EQ(start_limit(seconds(120), 8), seconds(120));
}

TEST(Rendezvous, FailsBetweenTwoUsersInWordsThatShowNoSecret) {
  const int port = free_port();
  const auto by_user = [port](const char* secret, int rank) {
    return Variables{{"MASTER_ADDR", "127.0.0.1"},
                     {"MASTER_PORT", std::to_string(port)},
                     {"ISOBAR_SECRET", secret},
                     {"RANK", std::to_string(rank)},
                     {"WORLD_SIZE", "2"}};
  };
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    const ScopedEnvironment environment(by_user("one user's, long enough", 0));
    const auto text = error_of<CommError>([] { meet_first(0, 2, std::chrono::seconds(3)); });
    const bool is_told = text.find("did not know the job's secret") != std::string::npos &&
                         text.find("long enough") == std::string::npos;
    _exit(is_told ? 0 : 1);
  }
  {
    const ScopedEnvironment environment(by_user("another user's, long enough", 1));
    const auto text = error_of<CommError>([] { meet_first(1, 2, std::chrono::seconds(2)); });
    expect_contains(text, "that is not this job's rank 0: it is another job's or user's");
    EXPECT_EQ(text.find("long enough"), std::string::npos);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
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
  expect_contains(refusal({}, {.lost_size = 3}), "lost_size must be 0 to 2, got 3");
  expect_contains(refusal({}, {}), "set MASTER_ADDR and MASTER_PORT");
}

}  // namespace
}  // namespace isobar::test::rendezvous_test
