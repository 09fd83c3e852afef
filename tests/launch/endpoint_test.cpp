// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/endpoint.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "launch/endpoint_sources.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::endpoint_test {
namespace {

TEST(Endpoint, TakesTheMasterThatTheEnvironmentNames) {
  const ScopedEnvironment environment(
      Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4711"}});
  const auto endpoint = master_endpoint();
  EXPECT_EQ(endpoint.addresses, std::vector<std::string>{"127.0.0.1"});
  EXPECT_EQ(endpoint.port, 4711);
}

TEST(Endpoint, RefusesAPortThatIsNone) {
  for (const char* port : {"0", "65536", "47x", "-1"}) {
    const ScopedEnvironment environment(
        Variables{{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}});
    expect_contains(error_of<UsageError>([] { master_endpoint(); }), "MASTER_PORT is '");
  }
}

TEST(Endpoint, GivesTwoStepsOfAJobDifferentTokensAndPorts) {
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

TEST(Endpoint, GivesTasksOfAJobArrayDifferentTokensAndPorts) {
  const auto endpoint_of = [](const char* job) {
    const ScopedEnvironment environment(Variables{{"SLURM_STEP_NODELIST", "127.0.0.1"},
                                                  {"SLURM_ARRAY_JOB_ID", "78"},
                                                  {"SLURM_JOB_ID", job},
                                                  {"SLURM_STEP_ID", "0"}});
    return slurm_endpoint();
  };
  EXPECT_NE(endpoint_of("78").token, endpoint_of("79").token);
  EXPECT_NE(endpoint_of("78").port, endpoint_of("79").port);
}

TEST(Endpoint, SpreadsThePortsOfJobsThatFollowEachOther) {
  std::set<int> ports;
  for (int job = 1000000; job < 1000100; ++job) {
    const ScopedEnvironment environment(Variables{{"SLURM_STEP_NODELIST", "127.0.0.1"},
                                                  {"SLURM_JOB_ID", std::to_string(job)},
                                                  {"SLURM_STEP_ID", "0"}});
    ports.insert(slurm_endpoint().port);
  }
  EXPECT_GE(ports.size(), 97U);  // of 100 drawn by lot from 10,000, one pair in two draws
}

TEST(Endpoint, GivesTheComponentsOfAHeterogeneousStepOneToken) {
  const auto endpoint_of = [](const char* nodes, const char* rank) {
    const ScopedEnvironment environment(Variables{{"SLURM_STEP_NODELIST", nodes},
                                                  {"SLURM_JOB_ID", "9"},
                                                  {"SLURM_HET_SIZE", "2"},
                                                  {"SLURM_JOB_ID_HET_GROUP_1", "10"},
                                                  {"SLURM_PROCID", rank},
                                                  {"SLURM_STEP_ID", "2"}});
    return slurm_endpoint();
  };
  EXPECT_EQ(endpoint_of("127.0.0.1", "0").token, endpoint_of("127.0.0.1", "4").token);
  EXPECT_EQ(endpoint_of("127.0.0.1", "0").port, endpoint_of("127.0.0.1", "4").port);
}

TEST(Endpoint, TakesNoStepForTheRanksOfAnMpiexecInIt) {
  const ScopedEnvironment environment(Variables{{"SLURM_STEP_NODELIST", "127.0.0.1"},
                                                {"SLURM_JOB_ID", "77"},
                                                {"SLURM_STEP_ID", "0"},
                                                {"SLURM_STEP_NUM_TASKS", "2"}});
  EXPECT_TRUE(read_endpoint({.launcher = "pmi", .size = 8}).addresses.empty());
  EXPECT_FALSE(read_endpoint({.launcher = "pmi", .size = 2}).addresses.empty());
}

TEST(Endpoint, TakesTheMastersPortWhereTorchrunsAgentLeavesItFree) {
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "127.0.0.1"},
                                                {"MASTER_PORT", "4711"},
                                                {"TORCHELASTIC_RUN_ID", "none"},
                                                {"TORCHELASTIC_USE_AGENT_STORE", "False"}});
  EXPECT_EQ(master_endpoint().port, 4711);
}

TEST(Endpoint, GivesRanksInSeveralStepsOneToken) {
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

TEST(Endpoint, PrefersTheMasterToTheStepAndTakesNoStepForMpiruns) {
  Variables variables{
      {"SLURM_STEP_NODELIST", "127.0.0.1"}, {"SLURM_JOB_ID", "77"}, {"SLURM_STEP_ID", "0"}};
  {
    const ScopedEnvironment environment(variables);
    EXPECT_EQ(read_endpoint({.launcher = "slurm"}).port, slurm_endpoint().port);
    EXPECT_TRUE(read_endpoint({.launcher = "openmpi"}).addresses.empty());
  }
  variables.insert({{"MASTER_ADDR", "127.0.0.2"}, {"MASTER_PORT", "4711"}});
  const ScopedEnvironment environment(variables);
  EXPECT_EQ(read_endpoint({.launcher = "slurm"}).port, 4711);
}

}  // namespace
}  // namespace isobar::test::endpoint_test
