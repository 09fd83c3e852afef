// SPDX-License-Identifier: Apache-2.0
#include "bench/node_facts.hpp"

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "bench/core_list.hpp"
#include "bench/folder_trial.hpp"
#include "bench/node_exchange.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::bench::node_facts_test {
namespace {

namespace fs = std::filesystem;

TEST(CoreList, IsReadAndWrittenAsTheKernelDoes) {
  EXPECT_EQ(parse_core_list("8,0-3,2"), (std::vector<int>{0, 1, 2, 3, 8}));
  EXPECT_EQ(core_list_text({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
  EXPECT_EQ(parse_core_list(""), std::vector<int>());
  EXPECT_EQ(core_list_text({}), "none");
  for (const char* text : {"a", "1-", "-1", "1 2", "1,,2"})
    EXPECT_THROW(parse_core_list(text), UsageError) << text;
}

TEST(PlanRounds, LetsEveryNodeMeetEveryOtherOnce) {
  for (int nodes = 1; nodes <= 9; ++nodes) {
    std::set<std::pair<int, int>> met;
    for (const auto& round : plan_rounds(nodes, 100)) {
      for (int node = 0; node < nodes; ++node) {
        if (round[node] < 0) continue;
        EXPECT_NE(round[node], node);
        EXPECT_EQ(round[round[node]], node);
        EXPECT_TRUE(met.emplace(node, round[node]).second);
      }
    }
    EXPECT_EQ(std::ssize(met), nodes * (nodes - 1));
  }
}

TEST(PlanRounds, StopsAfterTheMost) { EXPECT_EQ(plan_rounds(1000, 6).size(), 6); }

TEST(LayOutNodes, KeepsTheOrderOfFirstRanks) {
  const auto layout = lay_out_nodes({"b", "a", "b", "a", "c"});
  EXPECT_EQ(layout.names, (std::vector<std::string>{"b", "a", "c"}));
  EXPECT_EQ(layout.ranks, (std::vector<std::vector<int>>{{0, 2}, {1, 3}, {4}}));
  EXPECT_EQ(layout.node_of, (std::vector<int>{0, 1, 0, 1, 2}));
}

/// A node's files, as a kernel shows them.
class FakeNode {
 public:
  const fs::path& root() const { return folder_.path(); }

  void write(const std::string& file, const std::string& text) const {
    const auto path = root() / file;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << '\n';
  }

  void add_device(const std::string& bus, const std::string& driver, const std::string& kind,
                  int numa) const {
    const auto device = "sys/bus/pci/devices/" + bus;
    write(device + "/class", kind);
    write(device + "/numa_node", std::to_string(numa));
    write(device + "/local_cpulist", numa == 0 ? "0-15" : "16-31");
    fs::create_symlink("../../drivers/" + driver, root() / device / "driver");
  }

 private:
  test::TemporaryFolder folder_;
};

TEST(FindBusGpus, TakesThoseOfGpuDriversInTheOrderOfTheBus) {
  const FakeNode node;
  node.add_device("0000:c1:00.0", "nvidia", "0x030200", 1);
  node.add_device("0000:07:00.0", "nvidia", "0x030200", 0);
  node.add_device("0000:03:00.0", "ast", "0x030000", 0);     // the screen of the service board
  node.add_device("0000:c2:00.0", "nvidia", "0x068000", 1);  // a switch of NVIDIA's
  node.write("proc/driver/nvidia/gpus/0000:c1:00.0/information", "GPU UUID: \t GPU-11aa");
  const auto gpus = find_bus_gpus(node.root());
  ASSERT_EQ(gpus.size(), 2);
  EXPECT_EQ(gpus[0].bus, "0000:07:00.0");
  EXPECT_EQ(gpus[1].uuid, "GPU-11aa");
  EXPECT_EQ(gpus[1].numa, 1);
  EXPECT_EQ(core_list_text(gpus[1].cores), "16-31");
}

TEST(GpuOfRank, FollowsWhatTheRankSees) {
  const std::vector<BusGpu> gpus{{.bus = "0"}, {.bus = "1"}, {.bus = "2", .uuid = "GPU-ab"}, {}};
  EXPECT_EQ(gpu_of_rank(gpus, {}, 1), 1);
  EXPECT_EQ(gpu_of_rank(gpus, {}, 5), 1);
  EXPECT_EQ(gpu_of_rank(gpus, {.visible_gpus = "3,2"}, 0), 3);
  EXPECT_EQ(gpu_of_rank(gpus, {.visible_gpus = "GPU-a"}, 3), 2);
  EXPECT_EQ(gpu_of_rank(gpus, {.visible_gpus = "0", .step_gpus = "2"}, 0), 2);
  EXPECT_EQ(gpu_of_rank(gpus, {.visible_gpus = "1", .step_gpus = "0,1,2,3"}, 0), 1);
  EXPECT_EQ(gpu_of_rank(gpus, {.visible_gpus = "NoDevFiles"}, 0), -1);
  EXPECT_EQ(gpu_of_rank({}, {}, 0), -1);
}

TEST(ReadNicStates, PrefersAFabric) {
  const FakeNode node;
  node.write("sys/class/net/eth0/type", "1");
  node.write("sys/class/net/eth0/operstate", "up");
  node.write("sys/class/net/eth0/speed", "25000");
  node.write("sys/class/net/eth0/device/numa_node", "0");
  node.write("sys/class/net/virbr0/type", "1");
  node.write("sys/class/net/virbr0/operstate", "up");
  using States = std::map<std::string, std::string>;
  EXPECT_EQ(read_nic_states(node.root()), (States{{"eth0", "up, 25000 Mbit/s"}}));
  node.write("sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE");
  node.write("sys/class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (2X HDR)");
  EXPECT_EQ(read_nic_states(node.root()), (States{{"mlx5_0", "ACTIVE, 100 Gb/sec (2X HDR)"}}));
}

TEST(ReadPlace, FindsTheNicNearTheGpu) {
  const FakeNode node;
  node.add_device("0000:07:00.0", "nvidia", "0x030200", 1);
  for (const int nic : {0, 1}) {
    const auto device = "sys/class/infiniband/mlx5_" + std::to_string(nic);
    node.write(device + "/ports/1/state", "4: ACTIVE");
    node.write(device + "/device/numa_node", std::to_string(nic));
  }
  const auto place = read_place({.node = "n7"}, 0, node.root());
  EXPECT_EQ(place.node, "n7");
  EXPECT_EQ(place.nics, std::vector<std::string>{"mlx5_1"});
  EXPECT_FALSE(place.cores.empty());
  EXPECT_GT(place.open_files, 0);
}

TEST(LoadedLibraries, HaveTheirPathsAndBuilds) {
  const auto libraries = loaded_libraries();
  ASSERT_TRUE(libraries.contains("libc"));
  EXPECT_TRUE(fs::exists(libraries.at("libc").path));
  EXPECT_EQ(libraries.at("libc").build.size(), 40) << libraries.at("libc").build;
}

TEST(TryFolder, LeavesNothingAndSaysWhatFails) {
  const test::TemporaryFolder folder;
  const auto report = try_folder(folder.path().string(), 3 << 20, "n1");
  EXPECT_EQ(report.problem, "");
  EXPECT_GT(report.free_bytes, 0);
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_EQ(try_folder("/dev/null", 1, "n1").problem, "open: Not a directory");
  EXPECT_EQ(try_folder("", 1, "n1").problem, "the folder's name is empty");
}

}  // namespace
}  // namespace isobar::bench::node_facts_test
