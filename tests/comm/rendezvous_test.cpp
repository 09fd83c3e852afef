// SPDX-License-Identifier: Apache-2.0
#include "comm/rendezvous.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <future>
#include <string>
#include <thread>

#include "comm/control/socket.hpp"
#include "comm/expect_error.hpp"
#include "comm/node_identity.hpp"
#include "comm/scoped_environment.hpp"

namespace isobar::test::rendezvous_test {
namespace {

TEST(Rendezvous, FindsTheFirstHostOfASlurmList) {
  EXPECT_EQ(first_host("gpu3"), "gpu3");
  EXPECT_EQ(first_host("gpu3,n[08-11]"), "gpu3");
  EXPECT_EQ(first_host("n[08-11,20],gpu3"), "n08");
  EXPECT_EQ(first_host("n[7]"), "n7");
  EXPECT_EQ(first_host("rack[2-3]node,x"), "rack2node");
}

TEST(Rendezvous, TakesTheMasterThatTheEnvironmentNames) {
  const ScopedEnvironment environment(
      Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4711"}});
  const auto endpoint = master_endpoint();
  EXPECT_EQ(endpoint.addresses, std::vector<std::string>{"127.0.0.1"});
  EXPECT_EQ(endpoint.port, 4711);
}

TEST(Rendezvous, RefusesAPortThatIsNone) {
  for (const char* port : {"0", "65536", "47x", "-1"}) {
    const ScopedEnvironment environment(
        Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}});
    expect_contains(error_of<UsageError>([] { master_endpoint(); }), "MASTER_PORT is '");
  }
}

TEST(Rendezvous, GivesTwoStepsOfAJobDifferentTokensAndPorts) {
  Variables variables{
      {"SLURM_STEP_NODELIST", "127.0.0.1"}, {"SLURM_JOB_ID", "77"}, {"SLURM_STEP_ID", "0"}};
  const auto endpoint_of = [&](const char* step) {
    variables["SLURM_STEP_ID"] = step;
    const ScopedEnvironment environment(variables);
    return slurm_endpoint();
  };
  EXPECT_NE(endpoint_of("0").token, endpoint_of("1").token);
  EXPECT_NE(endpoint_of("0").port, endpoint_of("1").port);
  EXPECT_EQ(endpoint_of("0").port, endpoint_of("0").port);
}

/// A port that nobody listens at now.
int free_port() { return ControlListener().port(); }

LaunchEnvironment by_hand(int rank, int size) {
  return {.launcher = "torchrun", .rank = rank, .size = size};
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

TEST(Rendezvous, TakesTheMastersPortWhereTorchrunsAgentLeavesItFree) {
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "127.0.0.1"},
                                                {"MASTER_PORT", "4711"},
                                                {"TORCHELASTIC_RUN_ID", "none"},
                                                {"TORCHELASTIC_USE_AGENT_STORE", "False"}});
  EXPECT_EQ(master_endpoint().port, 4711);
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
  const Stranger stranger(slurm_endpoint().port);
  auto rank_0 = meeting(0, 2);
  auto rank_1 = meeting(1, 2);
  EXPECT_EQ(rank_1.get().token, rank_0.get().token);
}

TEST(Rendezvous, TellsJobsApartWhereNoLauncherNamesThem) {
  const auto job = [](const Variables& variables, const LaunchEnvironment& launch) {
    const ScopedEnvironment environment(variables);
    return job_of(launch);
  };
  const auto own = job({}, by_hand(1, 2));
  expect_contains(own, "comm_test");
  expect_contains(own, " in " + std::filesystem::current_path().string());
  EXPECT_EQ(job({}, {.launcher = "slurm", .size = 2}), "");
  EXPECT_EQ(job({{"TORCHELASTIC_RUN_ID", "none"}}, by_hand(1, 2)), "");
  EXPECT_EQ(job({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}, by_hand(1, 2)), "");
  EXPECT_EQ(job({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}, by_hand(1, 2)), own);
  EXPECT_EQ(job({{"ISOBAR_JOB", "a"}}, by_hand(1, 2)), "ISOBAR_JOB=a");
}

TEST(Rendezvous, GivesRanksInSeveralStepsOneToken) {
  const auto token = [](const Variables& more) {
    Variables variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4711"}, {"WORLD_SIZE", "4"}};
    variables.insert(more.begin(), more.end());
    const ScopedEnvironment environment(variables);
    return master_endpoint().token;
  };
  EXPECT_EQ(token({{"RANK", "0"}, {"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "0"}}),
            token({{"RANK", "2"}, {"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "1"}}));
  // In one step too, whatever the order in which they are counted.
  const Variables step{
      {"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}};
  auto first = step;
  first.insert({{"RANK", "0"}, {"SLURM_PROCID", "0"}});
  auto other = step;
  other.insert({{"RANK", "1"}, {"SLURM_PROCID", "3"}});
  EXPECT_EQ(token(first), token(other));
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

TEST(NodeIdentity, PutsTheLoopbackAddressLast) {
  const auto addresses = own_addresses();
  ASSERT_FALSE(addresses.empty());
  const bool last_is_loopback = addresses.back() == "127.0.0.1" || addresses.back() == "::1";
  EXPECT_TRUE(last_is_loopback) << addresses.back();
}

}  // namespace
}  // namespace isobar::test::rendezvous_test
