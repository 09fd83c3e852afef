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
#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "comm/control/socket.hpp"
#include "comm/expect_error.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::rendezvous_test {
namespace {

/// A port that nobody listens at now.
int free_port() { return ControlListener().port(); }

LaunchEnvironment by_hand(int rank, int size) {
  return {.launcher = "torchrun", .rank = rank, .size = size};
}

/// What make_communicator() says in a process that has a world already.
std::string error_of_second_world() {
  const auto first = make_communicator({});
  try {
    const auto second = make_communicator({.start_timeout = std::chrono::seconds(3)});
  } catch (const UsageError& error) {
    return error.what();
  }
  return "none: there are two worlds";
}

TEST(SecondWorld, OfAProcessIsNamedOnEveryRank) {
  const std::string expected = "this process has a world already; split() that one";
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "127.0.0.1"},
                                                {"MASTER_PORT", std::to_string(free_port())},
                                                {"WORLD_SIZE", "2"},
                                                {"RANK", "0"}});
  const pid_t child = fork();
  if (child == 0) {
    alarm(150);
    setenv("RANK", "1", 1);
    try {
      _exit(error_of_second_world().find(expected) != std::string::npos ? 0 : 1);
    } catch (...) {  // the tests after this one are the parent's
      _exit(2);
    }
  }
  expect_contains(error_of_second_world(), expected);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

std::future<Rendezvous> meeting(int rank, int size) {
  return std::async(std::launch::async, [=] {
    CommunicatorOptions options;
    options.start_timeout = std::chrono::seconds(20);
    return meet(by_hand(rank, size), options, false);
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

/// Somebody who takes connections and has nothing to say.
class Stranger {
 public:
  explicit Stranger(int port) : socket_(control::listen_on(port)) {
    thread_ = std::thread([this] {
      while (!stops_) {
        control::wait_readable(socket_.fd(), control::Clock::now() + std::chrono::milliseconds(10));
        control::accept_from(socket_.fd());
      }
    });
  }
  ~Stranger() {
    stops_ = true;
    thread_.join();
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

 private:
  control::Socket socket_;
  std::atomic<bool> stops_{false};
  std::thread thread_;
};

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
