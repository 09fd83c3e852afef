// SPDX-License-Identifier: Apache-2.0
#include "launch/host_lookup.hpp"

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "launch/endpoint_sources.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::host_lookup_test {
namespace {

using Addresses = std::vector<std::string>;

/// A resolver and a Slurm that know what they were given, and what they were asked.
struct FakeNetwork {
  std::map<std::string, Addresses> names = {};
  std::map<std::string, std::string> records = {};
  std::vector<std::string> asked = {};

  HostLookup lookup() {
    return {.resolve =
                [this](const std::string& name) {
                  asked.push_back(name);
                  return names.contains(name) ? names[name] : Addresses{};
                },
            .slurm_record =
                [this](const std::string& node) {
                  asked.push_back("slurm " + node);
                  return records[node];
                }};
  }
};

/// As scontrol --oneliner prints it.
std::string record(const std::string& address, const std::string& host) {
  return "NodeName=n1 Arch=x86_64 CoresPerSocket=1 CPUAlloc=1 CPUTot=16 NodeAddr=" + address +
         " NodeHostName=" + host + " Version=22.05.8 OS=Linux 6.1 #1 SMP State=MIXED";
}

const Variables kJob{{"SLURM_JOB_ID", "77"},
                     {"SLURM_STEP_ID", "0"},
                     {"SLURM_JOB_NODELIST", "n[1-4]"},
                     {"SLURM_STEP_NODELIST", "n[1-4]"},
                     {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.9"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(HostLookup, FindsTheFirstHostOfASlurmList) {
  EXPECT_EQ(first_host("gpu3"), "gpu3");
  EXPECT_EQ(first_host("gpu3,n[08-11]"), "gpu3");
  EXPECT_EQ(first_host("n[08-11,20],gpu3"), "n08");
  EXPECT_EQ(first_host("n[7]"), "n7");
  EXPECT_EQ(first_host("rack[2-3]node,x"), "rack2node");
  EXPECT_EQ(first_host("jpbo-[001-002]-[07-48],jpbo-003-01"), "jpbo-001-07");
  EXPECT_EQ(first_host("n[1-"), "n1");
  EXPECT_EQ(first_host(""), "");
}

TEST(HostLookup, AsksNobodyElseWhereTheResolverKnows) {
  const ScopedEnvironment environment(kJob);
  FakeNetwork network{.names = {{"n1", {"10.0.0.1"}}}};
  EXPECT_EQ(slurm_endpoint(network.lookup()).addresses, Addresses{"10.0.0.1"});
  EXPECT_EQ(network.asked, std::vector<std::string>{"n1"});
}

TEST(HostLookup, TakesTheAddressThatSlurmHasOfANode) {
  const ScopedEnvironment environment(kJob);
  FakeNetwork network{.names = {{"10.1.0.1", {"10.1.0.1"}}},
                      .records = {{"n1", record("10.1.0.1", "n1")}}};
  EXPECT_EQ(slurm_endpoint(network.lookup()).addresses, Addresses{"10.1.0.1"});
}

TEST(HostLookup, ResolvesTheNameThatSlurmHasOfANode) {
  const ScopedEnvironment environment(kJob);
  FakeNetwork network{.names = {{"n1-ib", {"10.1.0.1"}}},
                      .records = {{"n1", record("n1-ib", "n1")}}};
  EXPECT_EQ(slurm_endpoint(network.lookup()).addresses, Addresses{"10.1.0.1"});
  network = {.names = {{"host1", {"10.2.0.1"}}}, .records = {{"n1", record("n1", "host1")}}};
  EXPECT_EQ(slurm_endpoint(network.lookup()).addresses, Addresses{"10.2.0.1"});
}

TEST(HostLookup, TakesTheAliasOfACloudNodeBeforeItAsksSlurm) {
  const ScopedEnvironment environment(
      with(kJob, {{"SLURM_NODE_ALIASES", "n10:10.3.0.10:x,n1:[fd00:1::7]:y"}}));
  FakeNetwork network{.names = {{"fd00:1::7", {"fd00:1::7"}}, {"10.3.0.10", {"10.3.0.10"}}}};
  EXPECT_EQ(slurm_endpoint(network.lookup()).addresses, Addresses{"fd00:1::7"});
  EXPECT_EQ(network.asked, (std::vector<std::string>{"n1", "fd00:1::7"}));
}

TEST(HostLookup, TakesSrunsAddressInABatchJobAlone) {
  FakeNetwork network;
  const auto addresses = [&](const Variables& more) {
    const ScopedEnvironment environment(with(kJob, more));
    return slurm_endpoint(network.lookup()).addresses;
  };
  EXPECT_EQ(addresses({{"ENVIRONMENT", "BATCH"}}), Addresses{"10.0.0.9"});
  EXPECT_EQ(addresses({{"ENVIRONMENT", "BATCH"}, {"SLURM_JOB_NODELIST_HET_GROUP_0", "n1"}}),
            Addresses{"10.0.0.9"});
  // From salloc srun runs on the login node; a later step or component begins on another node.
  EXPECT_THROW(addresses({}), UsageError);
  EXPECT_THROW(addresses({{"ENVIRONMENT", "BATCH"}, {"SLURM_STEP_NODELIST", "n[3-4]"}}),
               UsageError);
  EXPECT_THROW(addresses({{"ENVIRONMENT", "BATCH"}, {"SLURM_JOB_NODELIST_HET_GROUP_0", "m1"}}),
               UsageError);
}

TEST(HostLookup, FindsTask0WhereAFileOfHostsPutIt) {
  const auto path =
      std::filesystem::temp_directory_path() / ("isobar_hosts_" + std::to_string(getpid()));
  const ScopedEnvironment environment(
      with(kJob, {{"SLURM_DISTRIBUTION", "arbitrary"}, {"SLURM_HOSTFILE", path.string()}}));
  for (const char* hosts : {"n2\nn1\nn2\n", "n2*2\nn1\n", "n2,n1,n2\n", "\n n2"}) {
    std::ofstream(path) << hosts;
    EXPECT_EQ(node_of_task_0("n[1-4]"), "n2") << hosts;
  }
  FakeNetwork network{.names = {{"n2", {"10.0.0.2"}}}};
  EXPECT_EQ(slurm_endpoint(network.lookup()).addresses, Addresses{"10.0.0.2"});
  std::filesystem::remove(path);
  expect_contains(error_of<UsageError>([&] { slurm_endpoint(network.lookup()); }),
                  "SLURM_HOSTFILE '" + path.string() + "', which says where task 0 is");
}

TEST(HostLookup, LooksForTheMasterInSlurmsRecordsToo) {
  FakeNetwork network{.names = {{"10.1.0.1", {"10.1.0.1"}}},
                      .records = {{"n1", record("10.1.0.1", "n1")}}};
  const ScopedEnvironment environment(
      with(kJob, {{"MASTER_ADDR", "n1"}, {"RANK", "0"}, {"WORLD_SIZE", "4"}}));
  EXPECT_EQ(master_endpoint(network.lookup()).addresses, Addresses{"10.1.0.1"});
}

TEST(HostLookup, SaysWhoWasAskedForAHostWithoutAddress) {
  FakeNetwork network;
  {
    const ScopedEnvironment environment(kJob);
    expect_contains(error_of<UsageError>([&] { slurm_endpoint(network.lookup()); }),
                    "SLURM_STEP_NODELIST names host 'n1', which has no address here, nor one in "
                    "Slurm's record of it; set MASTER_ADDR");
  }
  network.asked.clear();
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "n1"}});
  expect_contains(error_of<UsageError>([&] { master_endpoint(network.lookup()); }),
                  "MASTER_ADDR names host 'n1', which has no address here; set MASTER_ADDR");
  EXPECT_EQ(network.asked, std::vector<std::string>{"n1"});
}

/// A folder with a program "scontrol" of these lines, alone on the PATH while it lives.
class FakeScontrol {
 public:
  explicit FakeScontrol(const std::string& lines)
      : environment_(Variables{{"PATH", folder_.string()}}) {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / "scontrol") << "#!/bin/sh\n" << lines << "\n";
    std::filesystem::permissions(folder_ / "scontrol", std::filesystem::perms::owner_all);
  }
  ~FakeScontrol() { std::filesystem::remove_all(folder_); }
  FakeScontrol(const FakeScontrol&) = delete;
  FakeScontrol& operator=(const FakeScontrol&) = delete;

 private:
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("isobar_scontrol_" + std::to_string(getpid()));
  ScopedEnvironment environment_;
};

TEST(HostLookup, AsksScontrolForARecord) {
  const FakeScontrol scontrol("echo \"$*\"; echo words for nobody >&2");
  EXPECT_EQ(system_lookup().slurm_record("n1"), "--oneliner show node n1\n");
}

TEST(HostLookup, GetsNothingFromAScontrolThatFails) {
  const FakeScontrol scontrol("echo Node $4 not found; exit 1");
  EXPECT_EQ(system_lookup().slurm_record("n1"), "");
}

TEST(HostLookup, AsksScontrolForNothingButHosts) {
  const FakeScontrol scontrol("echo \"$*\"");
  for (const char* name : {"", "--help", "n1 n2", "n1;x", "../n1"}) {
    EXPECT_EQ(system_lookup().slurm_record(name), "") << name;
  }
}

TEST(HostLookup, GetsNothingWithoutScontrol) {
  const ScopedEnvironment environment(Variables{{"PATH", "/no/such/folder"}});
  EXPECT_EQ(system_lookup().slurm_record("n1"), "");
}

}  // namespace
}  // namespace isobar::test::host_lookup_test
