// SPDX-License-Identifier: Apache-2.0
#include "comm/rendezvous.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

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
