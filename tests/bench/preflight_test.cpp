// SPDX-License-Identifier: Apache-2.0
// Each fault is made in 20 allocations that are well apart from it, of different sizes and with the
// noise of real machines; it has to be found, at its node and nowhere else.
#include <isobar/bench/preflight.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/text.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <random>

#include "core/temporary_folder.hpp"

namespace isobar::bench::preflight_test {
namespace {

constexpr int kVariations = 20;
constexpr double kNominal_gbit_s = 200;

const Expectation kWanted{.node_gbit_s = kNominal_gbit_s,
                          .cpus_per_rank = 8,
                          .node_gpus = 4,
                          .gpu_cores = {"0-7", "8-15", "16-23", "24-31"},
                          .nics = {"mlx5_0", "mlx5_1:1"}};

using Random = std::mt19937;

double between(Random& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}

int below(Random& random, int end) {
  return std::uniform_int_distribution<int>(0, end - 1)(random);
}

std::vector<int> eight_cores(int first) {
  std::vector<int> cores;
  for (int core = first; core < first + 8; ++core) cores.push_back(core);
  return cores;
}

RankPlace healthy_rank(const std::string& node, int rank, int local_rank) {
  return {.rank = rank,
          .node = node,
          .local_rank = local_rank,
          .cores = eight_cores(8 * local_rank),
          .numa_nodes = {local_rank / 2},
          .node_cores = 32,
          .node_gpus = 4,
          .usable_gpus = 4,
          .gpu = local_rank,
          .gpu_numa = local_rank / 2,
          .nics = {"mlx5_0"},
          .open_files = 65536,
          .open_files_most = 65536};
}

NodeReport healthy_node(const std::string& node, Random& random) {
  return {.node = node,
          .versions = {{"isobar", "0.1.0 (commit 0123456789ab)"},
                       {"HDF5", "1.10.8"},
                       {"MPI", "Open MPI v4.1.4, package: Debian"},
                       {"kernel", "5.14.0"},
                       {"program", "cafe"}},
          .libraries = {{"libmpi", {"/usr/lib/libmpi.so.40", "2a2f4d8c"}},
                        {"libz", {"/usr/lib/libz.so.1", "81a5c4"}}},
          .nic_states = {{"mlx5_0", "ACTIVE, 100 Gb/sec (2X HDR)"},
                         {"mlx5_1", "ACTIVE, 100 Gb/sec (2X HDR)"}},
          .folders = {{.folder = "/scratch",
                       .write_s = between(random, 0.02, 0.4),
                       .read_s = 0.01,
                       .file_bytes = 8 << 20,
                       .free_bytes = int64_t{1} << 40}},
          .clock_offset_s = between(random, -0.02, 0.02),
          .clock_error_s = between(random, 1e-5, 1e-3),
          .link_gbit_s = between(random, 0.7, 0.95) * kNominal_gbit_s,
          .link_latency_s = between(random, 2e-6, 15e-6)};
}

Preflight healthy(int nodes, Random& random) {
  Preflight found{.backend = "nccl",
                  .allreduce_bytes = 64 << 20,
                  .allreduce_gbit_s = between(random, 0.55, 0.9) * kNominal_gbit_s};
  for (int node = 0; node < nodes; ++node) {
    found.nodes.push_back(healthy_node("n" + std::to_string(node + 1), random));
    for (int local = 0; local < 4; ++local)
      found.ranks.push_back(healthy_rank(found.nodes.back().node, 4 * node + local, local));
  }
  return found;
}

/// What is thought of it that is not well, as text.
std::string complaints(const Preflight& found, const Expectation& wanted = kWanted) {
  std::vector<Verdict> bad;
  for (const auto& verdict : judge(found, wanted)) {
    if (verdict.grade != Grade::ok) bad.push_back(verdict);
  }
  return verdict_lines(bad);
}

/// Breaks one node of healthy allocations, and wants what is found to be of `what` and of this node
/// alone.
void expect_found(const std::string& what, Grade grade, int least_nodes,
                  const std::function<void(Preflight&, int node, Random&)>& fault,
                  const Expectation& wanted = kWanted) {
  for (int variation = 0; variation < kVariations; ++variation) {
    Random random(variation);
    const int nodes = least_nodes + below(random, 14);
    auto found = healthy(nodes, random);
    const int node = below(random, nodes);
    fault(found, node, random);
    int bad = 0;
    for (const auto& verdict : judge(found, wanted)) {
      if (verdict.grade == Grade::ok) continue;
      ++bad;
      EXPECT_EQ(verdict.what, what) << verdict_lines({verdict});
      EXPECT_EQ(verdict.grade, grade) << verdict_lines({verdict});
      EXPECT_EQ(verdict.nodes, std::vector<std::string>{found.nodes[node].node})
          << verdict_lines({verdict}) << nodes << " nodes";
    }
    EXPECT_GE(bad, 1) << what << " in variation " << variation;
  }
}

TEST(Judge, FindsNothingInHealthyAllocations) {
  for (int nodes = 1; nodes <= kVariations; ++nodes) {
    Random random(nodes);
    const auto verdicts = judge(healthy(nodes, random), kWanted);
    EXPECT_EQ(worst(verdicts), Grade::ok) << verdict_lines(verdicts);
  }
}

TEST(Judge, NamesTheNodeOfASlowLink) {
  const auto slow = [](Preflight& found, int node, Random& random) {
    found.nodes[node].link_gbit_s = between(random, 0.01, 0.4) * kNominal_gbit_s;
  };
  expect_found("link", Grade::fail, 3, slow);
  expect_found("link", Grade::fail, 3, slow, {});  // of a machine of which nothing is known
}

TEST(Judge, NamesTheNodeWhoseLinkAnswersLate) {
  expect_found("latency", Grade::fail, 2, [](Preflight& found, int node, Random& random) {
    found.nodes[node].link_latency_s = between(random, 0.002, 0.5);
  });
}

TEST(Judge, NamesTheNodeThatGotWrongBytes) {
  expect_found("link", Grade::fail, 2, [](Preflight& found, int node, Random&) {
    found.nodes[node].link_problem = "bytes of rank 3 arrived wrong";
  });
}

TEST(Judge, NamesTheNodeWhoseFolderIsFull) {
  expect_found("folder", Grade::fail, 2, [](Preflight& found, int node, Random&) {
    found.nodes[node].folders[0].problem = "write: No space left on device";
  });
}

TEST(Judge, WarnsOfTheNodeWhoseFolderIsNearlyFull) {
  expect_found("folder", Grade::warn, 2, [](Preflight& found, int node, Random& random) {
    found.nodes[node].folders[0].free_bytes = 1 + below(random, 1 << 29);
  });
}

TEST(Judge, WarnsOfTheNodeThatWritesSlowly) {
  expect_found("folder", Grade::warn, 2, [](Preflight& found, int node, Random& random) {
    found.nodes[node].folders[0].write_s = between(random, 5, 60);
  });
}

TEST(Judge, NamesTheNodeOfAnotherVersion) {
  expect_found("versions", Grade::fail, 3, [](Preflight& found, int node, Random& random) {
    const char* names[] = {"isobar", "HDF5", "MPI", "program"};
    found.nodes[node].versions[names[below(random, 4)]] = "another";
  });
}

TEST(Judge, WarnsOfTheNodeOfAnotherKernel) {
  expect_found("versions", Grade::warn, 3, [](Preflight& found, int node, Random&) {
    found.nodes[node].versions["kernel"] = "4.18.0";
  });
}

TEST(Judge, NamesTheNodeOfAnotherLibrary) {
  expect_found("libraries", Grade::fail, 3, [](Preflight& found, int node, Random& random) {
    auto& library = found.nodes[node].libraries["libmpi"];
    library.build = "other" + std::to_string(below(random, 100));
    if (below(random, 2) == 0) library.path = "/opt/mpi/libmpi.so.40";
  });
}

TEST(Judge, WarnsOfTheNodeWhoseLibraryLiesElsewhere) {
  expect_found("libraries", Grade::warn, 3, [](Preflight& found, int node, Random&) {
    for (auto& [name, library] : found.nodes[node].libraries) library.path = "/opt/" + name;
  });
}

TEST(Judge, NamesTheNodeWhoseNicIsDownOrSlow) {
  expect_found("NIC", Grade::fail, 3, [](Preflight& found, int node, Random& random) {
    auto& states = found.nodes[node].nic_states;
    if (below(random, 3) == 0)
      states.erase("mlx5_1");
    else
      states["mlx5_1"] =
          below(random, 2) == 0 ? "DOWN, 10 Gb/sec (4X SDR)" : "ACTIVE, 50 Gb/sec (1X HDR)";
  });
}

TEST(Judge, NamesTheNodeWhoseClockIsOff) {
  expect_found("clock", Grade::warn, 3, [](Preflight& found, int node, Random& random) {
    found.nodes[node].clock_offset_s = (below(random, 2) ? 1 : -1) * between(random, 0.2, 5);
  });
  expect_found("clock", Grade::fail, 3, [](Preflight& found, int node, Random& random) {
    found.nodes[node].clock_offset_s = (below(random, 2) ? 1 : -1) * between(random, 15, 9000);
  });
}

TEST(Judge, NamesTheNodeOfFewOpenFiles) {
  expect_found("open files", Grade::fail, 2, [](Preflight& found, int node, Random& random) {
    for (int local = 0; local < 4; ++local)
      found.ranks[4 * node + local].open_files = 64 << below(random, 3);
  });
}

TEST(Judge, NamesTheNodeOfRanksOnWrongCores) {
  expect_found("cores", Grade::fail, 2, [](Preflight& found, int node, Random& random) {
    const int rank = 4 * node + below(random, 4);
    found.ranks[rank].cores.resize(1 + below(random, 7));
  });
}

TEST(Judge, NamesTheNodeOfRanksFarFromTheirGpus) {
  expect_found("GPUs", Grade::fail, 2, [](Preflight& found, int node, Random& random) {
    const int one = below(random, 4), other = (one + 1 + below(random, 3)) % 4;
    std::swap(found.ranks[4 * node + one].cores, found.ranks[4 * node + other].cores);
  });
}

TEST(Judge, NamesTheNodeThatLostAGpu) {
  expect_found("GPUs", Grade::fail, 2, [](Preflight& found, int node, Random&) {
    for (int local = 0; local < 4; ++local) found.ranks[4 * node + local].node_gpus = 3;
    found.ranks[4 * node + 3].gpu = 0;
  });
}

TEST(Judge, NamesTheNodeOfRanksThatTakeOneGpu) {
  expect_found("GPUs", Grade::fail, 2,
               [](Preflight& found, int node, Random&) { found.ranks[4 * node + 1].gpu = 0; });
}

TEST(Judge, FindsAFaultThatAllNodesShare) {
  Random random(1);
  auto found = healthy(4, random);
  for (auto& node : found.nodes) node.link_gbit_s = 0.1 * kNominal_gbit_s;
  EXPECT_TRUE(complaints(found).starts_with("FAIL  link        n1, n2, n3, n4: from 20 Gbit/s"));
  found.backend = "gloo";  // host memory is not what the figure is of
  EXPECT_TRUE(complaints(found).starts_with("warn  link        n1, n2, n3, n4: from 20 Gbit/s"));
}

TEST(Judge, OnlyWarnsWhereTheProfileMayBeWrong) {
  Random random(1);
  auto found = healthy(4, random);
  for (auto& node : found.nodes) node.link_gbit_s = 0.1 * kNominal_gbit_s;
  auto wanted = kWanted;
  wanted.uncertain = {"node_gbit_s"};
  EXPECT_TRUE(complaints(found, wanted).starts_with("warn  link"));
}

TEST(Judge, SaysThatASumIsWrong) {
  Random random(1);
  auto found = healthy(2, random);
  found.allreduce_error = 2;
  EXPECT_EQ(complaints(found), "FAIL  all-reduce  off by 2; wanted the right sum\n");
}

TEST(Judge, ComparesTwoNodesWithEachOther) {
  Random random(1);
  auto found = healthy(2, random);
  found.nodes[1].versions["HDF5"] = "1.12.2";
  EXPECT_EQ(complaints(found), "FAIL  versions    n2: HDF5 1.12.2; wanted 1.10.8, as on n1\n");
}

TEST(Judge, SaysOnceThatALibraryPathMakesManyDiffer) {
  Random random(1);
  auto found = healthy(3, random);
  for (int i = 0; i < 50; ++i) {
    const auto name = "libpart" + std::to_string(i);
    for (auto& node : found.nodes) node.libraries[name] = {"/usr/lib/" + name, "1"};
    found.nodes[2].libraries[name].path = "/opt/" + name;
  }
  const auto text = complaints(found);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_NE(text.find("and 49 more"), std::string::npos) << text;
}

std::vector<RankPlace> two_ranks(std::vector<int> first, std::vector<int> second, int node_cores) {
  auto ranks = std::vector<RankPlace>{healthy_rank("n1", 0, 0), healthy_rank("n1", 1, 1)};
  ranks[0].cores = std::move(first);
  ranks[1].cores = std::move(second);
  for (auto& rank : ranks) {
    rank.node_cores = node_cores;
    rank.node_gpus = rank.usable_gpus = 0;
    rank.gpu = -1;
  }
  return ranks;
}

/// The verdict on cores, where nothing is known of the machine.
std::string on_cores(const std::vector<RankPlace>& ranks, const Expectation& wanted = {}) {
  return verdict_lines({judge_binding(ranks, wanted).front()});
}

TEST(JudgeBinding, NamesRanksThatShareCores) {
  EXPECT_EQ(on_cores(two_ranks({0, 1, 2, 3}, {2, 3, 4, 5}, 8)),
            "FAIL  cores       n1: ranks 0, 1 share cores 2-3; wanted cores of its own for each "
            "rank (--cpus-per-task and --cpu-bind=cores of srun)\n");
}

TEST(JudgeBinding, WarnsOfRanksThatAreNotBoundAndFailsThoseOnTooFewCores) {
  EXPECT_TRUE(on_cores(two_ranks({0, 1}, {0, 1}, 2)).starts_with("warn  cores       n1: ranks 0"));
  EXPECT_TRUE(on_cores(two_ranks({0}, {0}, 2)).starts_with("FAIL  cores       n1: ranks 0"));
  EXPECT_TRUE(on_cores(two_ranks({0, 1}, {0, 1}, 2), {.cpus_per_rank = 2}).starts_with("FAIL"));
}

TEST(JudgeBinding, DoesNotWantRoomThatThereIsNot) {
  // All GPUs hang off the first half of the cores.
  const Expectation wanted{.cpus_per_rank = 8, .gpu_cores = {"0-7", "0-7"}};
  auto ranks = two_ranks(eight_cores(0), eight_cores(8), 16);
  EXPECT_EQ(worst(judge_binding(ranks, wanted)), Grade::ok);
  ranks[1].cores = eight_cores(16);
  EXPECT_EQ(worst(judge_binding(ranks, {.gpu_cores = {"0-7", "8-15"}})), Grade::fail);
}

TEST(JudgeBinding, LetsManyRanksShareAFewGpus) {
  std::vector<RankPlace> ranks;
  for (int rank = 0; rank < 8; ++rank) {
    ranks.push_back(healthy_rank("n1", rank, rank));
    ranks.back().node_gpus = ranks.back().usable_gpus = 1;
    ranks.back().gpu = 0;
    ranks.back().node_cores = 64;
  }
  EXPECT_EQ(worst(judge_binding(ranks, {})), Grade::ok) << verdict_lines(judge_binding(ranks, {}));
}

TEST(JudgeBinding, NamesTheRankThatCanUseNoGpu) {
  auto ranks = std::vector<RankPlace>{healthy_rank("n1", 0, 0), healthy_rank("n2", 1, 0)};
  ranks[1].usable_gpus = 0;
  const auto lines = verdict_lines(judge_binding(ranks, {}));
  EXPECT_NE(lines.find("FAIL  GPUs        n2: rank 1 can use no GPU"), std::string::npos) << lines;
}

TEST(JudgeBinding, FailsRanksThatHaveToComputeOnAGpuAndCanUseNone) {
  const auto ranks = two_ranks(eight_cores(0), eight_cores(8), 16);
  const auto lines = verdict_lines(judge_binding(ranks, {.node_gpus = 4, .rank_gpus = 1}));
  EXPECT_NE(lines.find("FAIL  GPUs        ranks 0, 1 can use no GPU; wanted 1 GPU for each"),
            std::string::npos)
      << lines;
  EXPECT_EQ(worst(judge_binding(ranks, {.node_gpus = 4})), Grade::warn) << "on their cores";
  EXPECT_EQ(
      worst(judge_binding(ranks, {.node_gpus = 4, .rank_gpus = 1, .uncertain = {"rank_gpus"}})),
      Grade::warn);
  const std::vector<RankPlace> healthy{healthy_rank("n1", 0, 0)};
  EXPECT_EQ(worst(judge_binding(healthy, {.rank_gpus = 1})), Grade::ok);
}

TEST(PlacesTable, HasALineForEachRank) {
  auto place = healthy_rank("n1", 3, 3);
  place.gpu_bus = "0000:07:00.0";
  const auto table = places_table({place});
  EXPECT_NE(table.find("    3 n1       3  24-31"), std::string::npos) << table;
  EXPECT_NE(table.find("3 at 0000:07:00.0"), std::string::npos) << table;
}

/// Runs a pre-flight of four ranks on `nodes` nodes of one process; what rank 0 has.
Preflight run_on_threads(int nodes, const std::string& folder,
                         const std::function<void(PreflightOptions&, int rank)>& change = {}) {
  Preflight result;
  run_ranks(4, [&](Communicator& comm) {
    PreflightOptions options{.folders = {folder}, .file_bytes = 1 << 20, .most_bytes = 1 << 20};
    options.node = "n" + std::to_string(comm.rank() % nodes + 1);
    if (change) change(options, comm.rank());
    const auto found = run_preflight(comm, options);
    require_equal(comm, "pre-flight", {preflight_object(found).dump()});
    if (comm.rank() == 0) result = found;
  });
  return result;
}

TEST(Preflight, MeasuresAllThatNodesHave) {
  const test::TemporaryFolder folder;
  for (const int nodes : {1, 2, 3, 4}) {
    const auto found = run_on_threads(nodes, folder.path().string());
    ASSERT_EQ(std::ssize(found.nodes), nodes);
    EXPECT_EQ(std::ssize(found.ranks), 4);
    EXPECT_GT(found.allreduce_gbit_s, 0);
    EXPECT_EQ(found.allreduce_error, 0);
    for (const auto& node : found.nodes) {
      EXPECT_EQ(node.link_gbit_s > 0, nodes > 1);
      EXPECT_EQ(node.link_latency_s > 0, nodes > 1);
      EXPECT_EQ(node.link_problem, "");
      EXPECT_EQ(node.folders.at(0).problem, "");
      EXPECT_GT(node.folders.at(0).write_s, 0);
      EXPECT_GT(node.libraries.count("libtorch_cpu"), 0);
      EXPECT_LT(std::abs(node.clock_offset_s), 0.1);
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Preflight, FindsAFolderThatIsNotThere) {
  const test::TemporaryFolder folder;
  const auto found = run_on_threads(4, folder.path().string(), [](auto& options, int rank) {
    if (rank == 2) options.folders[0] += "/missing";
  });
  EXPECT_EQ(found.nodes[1].folders[0].problem, "");
  EXPECT_EQ(found.nodes[2].folders[0].problem, "open: No such file or directory");
}

TEST(Preflight, FindsAClockThatIsOff) {
  const test::TemporaryFolder folder;
  const auto found = run_on_threads(4, folder.path().string(), [](auto& options, int rank) {
    options.wall_clock_s = [rank] { return rank == 3 ? 1e9 + 5 : 1e9; };
  });
  EXPECT_NEAR(found.nodes[3].clock_offset_s, 5, 1e-6);
  EXPECT_NEAR(found.nodes[1].clock_offset_s, 0, 1e-6);
}

}  // namespace
}  // namespace isobar::bench::preflight_test
