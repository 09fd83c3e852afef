// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/describe.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace isobar::test::describe_test {
namespace {

ClusterProfile make_profile() {
  ClusterProfile profile;
  profile.name = "mybox";
  profile.title = "the institute's";
  profile.gpu_platform = "cuda";
  Queue queue;
  queue.name = "main";
  queue.partition = "gpu";
  queue.most_nodes = 16;
  queue.most_minutes = 2880;
  profile.slurm.queues = {queue};
  profile.node.gpus = 4;
  profile.node.gpu_memory_bytes = std::int64_t{80} << 30;
  profile.network.cell_nodes = 180;
  profile.environment = {{"NCCL_IB_SL", "1"}, {"CACHE", "/tmp/$USER a"}};
  profile.unverified = {{"network", "seen on a slide"}, {"queues.main.most_nodes", "or 8"}};
  profile.overlaid = {"node.gpus", "environment.CACHE"};
  return profile;
}

ProfileLine line_of(const std::string& key) {
  const auto lines = describe_profile(make_profile());
  const auto found =
      std::find_if(lines.begin(), lines.end(), [&](const auto& line) { return line.key == key; });
  return found == lines.end() ? ProfileLine{} : *found;
}

TEST(DescribeProfile, SaysWhatIsKnownAndNothingElse) {
  EXPECT_EQ(line_of("title").value, "the institute's");
  EXPECT_EQ(line_of("node.gpus").value, "4");
  EXPECT_EQ(line_of("node.gpu_memory_bytes").value, "80.0 GiB");
  EXPECT_EQ(line_of("environment.NCCL_IB_SL").value, "1");
  EXPECT_EQ(line_of("queues.main").value, "partition gpu, to 16 nodes, to 2-00:00:00");
  EXPECT_EQ(line_of("network.nic").key, "");
  EXPECT_EQ(line_of("node.cores").key, "");
}

TEST(DescribeProfile, MarksWhatIsNotCertainInItsSectionOrInALineOfSeveralValues) {
  EXPECT_EQ(line_of("network.cell_nodes").unverified, "seen on a slide");
  EXPECT_EQ(line_of("queues.main").unverified, "most_nodes: or 8");
  EXPECT_EQ(line_of("title").unverified, "");
}

TEST(DescribeProfile, MarksWhatTheUserHasSet) {
  EXPECT_TRUE(line_of("node.gpus").overlaid);
  EXPECT_TRUE(line_of("environment.CACHE").overlaid);
  EXPECT_FALSE(line_of("environment.NCCL_IB_SL").overlaid);
  EXPECT_FALSE(line_of("node.gpu_memory_bytes").overlaid);
}

TEST(EnvironmentLines, NameTheMachineAndLeaveVariablesToTheShell) {
  EXPECT_EQ(environment_lines(make_profile()),
            "CACHE=/tmp/$USER a\nISOBAR_CLUSTER=mybox\nNCCL_IB_SL=1\n");
  EXPECT_EQ(export_lines(make_profile()),
            "export CACHE=\"/tmp/$USER a\"\nexport ISOBAR_CLUSTER=mybox\nexport NCCL_IB_SL=1\n");
}

}  // namespace
}  // namespace isobar::test::describe_test
