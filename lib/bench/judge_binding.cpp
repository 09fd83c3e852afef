// SPDX-License-Identifier: Apache-2.0
// What judge() has to say of cores and GPUs: on one rank, from what all have said. Cores come
// first: ranks that are not bound at all, or all to the same few, are said once for a node, and
// then nothing further is said of its cores.
#include <isobar/bench/preflight.hpp>

#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "bench/core_list.hpp"
#include "bench/verdicts.hpp"

namespace isobar::bench {
namespace {

using NodeRanks = std::vector<const RankPlace*>;

std::vector<NodeRanks> ranks_by_node(const std::vector<RankPlace>& ranks) {
  std::vector<NodeRanks> nodes;
  for (const auto& rank : ranks) {
    auto same = std::find_if(nodes.begin(), nodes.end(), [&](const NodeRanks& node) {
      return node.front()->node == rank.node;
    });
    if (same == nodes.end()) same = nodes.insert(nodes.end(), NodeRanks());
    same->push_back(&rank);
  }
  return nodes;
}

std::string count_of(std::size_t count, const std::string& what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string ranks_text(const NodeRanks& ranks) {
  std::vector<std::string> numbers;
  for (const auto* rank : ranks) numbers.push_back(std::to_string(rank->rank));
  return (ranks.size() == 1 ? "rank " : "ranks ") + some_of(numbers);
}

int cores_wanted(const Expectation& wanted) { return std::max(1, wanted.cpus_per_rank); }

const std::string kBindAdvice = "--cpus-per-task and --cpu-bind=cores of srun";

/// Whether all ranks of the node may run on the same cores, which is said.
bool judge_unbound(const NodeRanks& node, const Expectation& wanted, Verdicts& verdicts) {
  const auto& cores = node.front()->cores;
  const bool alike = std::all_of(node.begin(), node.end(),
                                 [&](const RankPlace* rank) { return rank->cores == cores; });
  if (node.size() < 2 || !alike) return false;
  const bool enough = cores.size() >= node.size() * static_cast<std::size_t>(cores_wanted(wanted));
  verdicts.add(enough ? Grade::warn : Grade::fail, {node.front()->node},
               fmt::format("{} are not bound, and share {} ({})", ranks_text(node),
                           count_of(cores.size(), "core"), core_list_text(cores)),
               fmt::format("{} for each", count_of(cores_wanted(wanted), "core")), kBindAdvice);
  return true;
}

void judge_overlap(const NodeRanks& node, Verdicts& verdicts) {
  for (std::size_t i = 0; i < node.size(); ++i) {
    NodeRanks sharing{node[i]};
    for (std::size_t k = i + 1; k < node.size(); ++k) {
      if (!common_cores(node[i]->cores, node[k]->cores).empty()) sharing.push_back(node[k]);
    }
    if (sharing.size() == 1) continue;
    verdicts.add(Grade::fail, {node[i]->node},
                 fmt::format("{} share cores {}", ranks_text(sharing),
                             core_list_text(common_cores(node[i]->cores, sharing[1]->cores))),
                 "cores of its own for each rank", kBindAdvice);
  }
}

/// How many cores most ranks have; of equals the larger number.
std::size_t usual_core_count(const std::vector<RankPlace>& ranks) {
  std::map<std::size_t, int> counts;
  for (const auto& rank : ranks) ++counts[rank.cores.size()];
  std::pair<int, std::size_t> usual;
  for (const auto& [cores, count] : counts) usual = std::max(usual, std::pair(count, cores));
  return usual.second;
}

/// Of cores that are wanted by nobody's word, most ranks' number is taken; half of it is odd.
void judge_core_count(const RankPlace& rank, std::size_t usual, const Expectation& wanted,
                      Verdicts& verdicts) {
  const auto has = fmt::format("rank {} has {} ({})", rank.rank,
                               count_of(rank.cores.size(), "core"), core_list_text(rank.cores));
  if (rank.cores.size() < static_cast<std::size_t>(wanted.cpus_per_rank)) {
    verdicts.add(against(wanted, "cpus_per_rank"), {rank.node}, has,
                 fmt::format("{} cores", wanted.cpus_per_rank), kBindAdvice);
  } else if (2 * rank.cores.size() <= usual) {
    verdicts.add(Grade::fail, {rank.node}, has, fmt::format("{}, as most ranks have", usual),
                 kBindAdvice);
  }
}

void judge_cores(const std::vector<RankPlace>& ranks, const Expectation& wanted,
                 std::vector<Verdict>& into) {
  Verdicts verdicts("cores");
  const auto usual = usual_core_count(ranks);
  for (const auto& node : ranks_by_node(ranks)) {
    if (judge_unbound(node, wanted, verdicts)) continue;
    judge_overlap(node, verdicts);
    for (const auto* rank : node) judge_core_count(*rank, usual, wanted, verdicts);
  }
  verdicts.finish(
      into,
      fmt::format("{} for each of {}", count_of(usual, "core"), count_of(ranks.size(), "rank")),
      wanted.cpus_per_rank > 0 ? fmt::format("{} or more", wanted.cpus_per_rank) : "");
}

/// Cores near the rank's GPU, as the machine's profile has them, else as the node says.
std::vector<int> cores_near_gpu(const RankPlace& rank, const Expectation& wanted) {
  const auto gpu = static_cast<std::size_t>(rank.gpu >= 0 ? rank.gpu : rank.local_rank);
  if (gpu < wanted.gpu_cores.size()) return parse_core_list(wanted.gpu_cores[gpu]);
  return rank.gpu_cores;
}

/// Whether the ranks whose GPUs are near the same cores all have room there. Where all GPUs hang
/// off one half of a node, half of the ranks have to run far from theirs.
bool have_room(const NodeRanks& node, const std::vector<int>& near, const Expectation& wanted) {
  std::size_t needed = 0;
  for (const auto* rank : node) {
    if (cores_near_gpu(*rank, wanted) == near)
      needed += std::max(rank->cores.size(), static_cast<std::size_t>(cores_wanted(wanted)));
  }
  return needed <= near.size();
}

void judge_gpu_cores(const NodeRanks& node, const Expectation& wanted, Verdicts& verdicts) {
  const auto gpus = std::max<std::size_t>(node.front()->node_gpus, wanted.gpu_cores.size());
  if (node.size() > gpus) return;  // such ranks compute on their cores
  for (const auto* rank : node) {
    const auto near = cores_near_gpu(*rank, wanted);
    const bool is_bound = static_cast<int>(rank->cores.size()) < rank->node_cores;
    if (near.empty() || !is_bound || !have_room(node, near, wanted)) continue;
    const auto common = common_cores(rank->cores, near);
    if (common.size() == rank->cores.size()) continue;
    const auto grade = common.empty() ? against(wanted, "gpu_cores") : Grade::warn;
    verdicts.add(grade, {rank->node},
                 fmt::format("rank {} (local {}) runs on cores {}", rank->rank, rank->local_rank,
                             core_list_text(rank->cores)),
                 fmt::format("{}, near its GPU", core_list_text(near)), "--cpu-bind of srun");
  }
}

/// Ranks that take one GPU although there is one for each.
void judge_gpu_sharing(const NodeRanks& node, Verdicts& verdicts) {
  std::map<int, NodeRanks> users;
  for (const auto* rank : node) users[rank->gpu].push_back(rank);
  for (const auto& [gpu, ranks] : users) {
    if (gpu < 0 || ranks.size() < 2 || std::ssize(node) > node.front()->node_gpus) continue;
    verdicts.add(
        Grade::fail, {node.front()->node},
        fmt::format("{} take GPU {} of {}", ranks_text(ranks), gpu, node.front()->node_gpus),
        "a GPU for each rank", "CUDA_VISIBLE_DEVICES, and --gpu-bind of srun");
  }
}

void judge_gpu_count(const std::vector<NodeRanks>& nodes, const Expectation& wanted,
                     Verdicts& verdicts) {
  int most = wanted.node_gpus;
  for (const auto& node : nodes) most = std::max(most, node.front()->node_gpus);
  const bool none = std::all_of(nodes.begin(), nodes.end(),
                                [](const NodeRanks& node) { return node.front()->node_gpus == 0; });
  std::map<int, std::vector<std::string>> fewer;
  for (const auto& node : nodes) {
    if (node.front()->node_gpus < most)
      fewer[node.front()->node_gpus].push_back(node.front()->node);
  }
  for (const auto& [gpus, names] : fewer) {
    verdicts.add(
        none ? Grade::warn : Grade::fail, names, count_of(gpus, "GPU"), std::to_string(most),
        none ? "a container may hide them" : "a GPU that fell off its bus is back after a reboot");
  }
}

/// Ranks that can use no GPU although others can, or although they have to compute on one.
void judge_usable_gpus(const std::vector<RankPlace>& ranks, const Expectation& wanted,
                       Verdicts& verdicts) {
  const bool any = std::any_of(ranks.begin(), ranks.end(),
                               [](const RankPlace& rank) { return rank.usable_gpus > 0; });
  if (!any && wanted.rank_gpus > 0) {
    NodeRanks all;
    for (const auto& rank : ranks) all.push_back(&rank);
    verdicts.add(against(wanted, "rank_gpus"), {}, ranks_text(all) + " can use no GPU",
                 count_of(static_cast<std::size_t>(wanted.rank_gpus), "GPU") + " for each",
                 "a LibTorch for these GPUs and a driver; --device cpu wants none");
  }
  for (const auto& rank : ranks) {
    if (!any || rank.usable_gpus > 0) continue;
    verdicts.add(Grade::fail, {rank.node}, fmt::format("rank {} can use no GPU", rank.rank),
                 "one, as other ranks have", "nvidia-smi there, and CUDA_VISIBLE_DEVICES");
  }
}

void judge_gpus(const std::vector<RankPlace>& ranks, const Expectation& wanted,
                std::vector<Verdict>& into) {
  Verdicts verdicts("GPUs");
  const auto nodes = ranks_by_node(ranks);
  judge_gpu_count(nodes, wanted, verdicts);
  judge_usable_gpus(ranks, wanted, verdicts);
  for (const auto& node : nodes) {
    judge_gpu_cores(node, wanted, verdicts);
    judge_gpu_sharing(node, verdicts);
  }
  const int gpus = ranks.front().node_gpus;
  verdicts.finish(into, gpus > 0 ? fmt::format("{} a node, near their ranks' cores", gpus) : "none",
                  wanted.node_gpus > 0 ? std::to_string(wanted.node_gpus) : "");
}

/// Connections of the control, and of each transport, to all other ranks; and files.
std::int64_t open_files_wanted(const std::vector<RankPlace>& ranks, const Expectation& wanted) {
  constexpr std::int64_t kFiles = 512, kFilesPerRank = 4;
  if (wanted.open_files > 0) return wanted.open_files;
  return kFiles + kFilesPerRank * std::ssize(ranks);
}

void judge_open_files(const std::vector<RankPlace>& ranks, const Expectation& wanted,
                      std::vector<Verdict>& into) {
  Verdicts verdicts("open files");
  const auto least = open_files_wanted(ranks, wanted);
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::string>> fewer;
  std::int64_t smallest = ranks.front().open_files;
  for (const auto& rank : ranks) {
    smallest = std::min(smallest, rank.open_files);
    if (rank.open_files >= least) continue;
    auto& nodes = fewer[{rank.open_files, rank.open_files_most}];
    if (nodes.empty() || nodes.back() != rank.node) nodes.push_back(rank.node);
  }
  for (const auto& [limits, nodes] : fewer) {
    const auto [limit, most] = limits;
    verdicts.add(Grade::fail, nodes, std::to_string(limit), std::to_string(least),
                 most >= least ? fmt::format("ulimit -n {}", least)
                               : fmt::format("the limit cannot be raised above {}", most));
  }
  verdicts.finish(into, fmt::format("{} a process", smallest), std::to_string(least));
}

}  // namespace

std::vector<Verdict> judge_binding(const std::vector<RankPlace>& ranks, const Expectation& wanted) {
  std::vector<Verdict> verdicts;
  if (ranks.empty()) return verdicts;
  judge_cores(ranks, wanted, verdicts);
  judge_gpus(ranks, wanted, verdicts);
  judge_open_files(ranks, wanted, verdicts);
  return verdicts;
}

}  // namespace isobar::bench
