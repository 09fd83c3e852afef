// SPDX-License-Identifier: Apache-2.0
// What a profile has to hold for a job to be made of it, whoever wrote it: profile.cpp calls this
// after all files were read. Types and single numbers were checked while reading; here are values
// that have to fit each other, and texts that something else will read.
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <algorithm>
#include <charconv>
#include <regex>

#include "cluster/profile_draft.hpp"

namespace isobar {
namespace {

bool is_match(const std::string& text, const char* pattern) {
  return std::regex_match(text, std::regex(pattern));
}

std::regex compiled(const std::string& pattern, const std::string& key, const std::string& origin) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw UsageError(detail::join(origin, ": '", key, "' is no regular expression of ECMAScript: '",
                                  pattern, "' (", error.what(), ")"));
  }
}

void check_patterns(const ClusterProfile& profile, const std::string& origin) {
  const auto& rules = profile.detection;
  for (const auto& [name, pattern] : rules.environment) {
    compiled(pattern, "detection.environment." + name, origin);
  }
  for (const auto& [path, pattern] : rules.files) {
    compiled(pattern, "detection.files." + path, origin);
  }
  compiled(rules.slurm_cluster_name, "detection.slurm_cluster_name", origin);
  compiled(rules.host_name, "detection.host_name", origin);
  compiled(rules.host_name_alike, "detection.host_name_alike", origin);

  const auto& slurm = profile.slurm;
  const auto account = compiled(slurm.account_pattern, "slurm.account_pattern", origin);
  if (slurm.account_pattern.empty()) return;
  ISOBAR_CHECK(std::regex_match(slurm.account_example, account), origin,
               ": 'slurm.account_example' is '", slurm.account_example,
               "', which 'slurm.account_pattern' refuses: '", slurm.account_pattern, "'");
  ISOBAR_CHECK(profile.account.empty() || std::regex_match(profile.account, account), origin,
               ": 'account' is '", profile.account,
               "', which is no account of this machine; wanted one such as '",
               slurm.account_example, "'");
}

void check_queues(const ClusterProfile& profile, const std::string& origin) {
  ISOBAR_CHECK(!profile.slurm.queues.empty(), origin,
               ": 'queues' has none; wanted one or more, each a way to ask for nodes");
  for (const auto& queue : profile.slurm.queues) {
    ISOBAR_CHECK(queue.most_nodes == 0 || queue.least_nodes <= queue.most_nodes, origin,
                 ": 'queues.", queue.name, "' takes ", queue.least_nodes, " nodes or more and ",
                 queue.most_nodes, " or fewer; wanted least_nodes of at most most_nodes");
  }
}

/// The highest core of "0-15" or "0-15,64-79"; -1 where the text is no such list.
int highest_core(const std::string& cores) {
  static constexpr const char* kList = R"(\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*)";
  if (!is_match(cores, kList)) return -1;
  int highest = 0;
  for (std::size_t begin = 0; begin < cores.size(); ++begin) {
    int core = 0;
    const auto [rest, error] =
        std::from_chars(cores.data() + begin, cores.data() + cores.size(), core);
    highest = std::max(highest, core);
    begin = static_cast<std::size_t>(rest - cores.data());
  }
  return highest;
}

void check_one_a_gpu(std::size_t entries, const std::string& key, const ClusterProfile& profile,
                     const std::string& origin) {
  ISOBAR_CHECK(entries == 0 || entries == static_cast<std::size_t>(profile.node.gpus), origin,
               ": '", key, "' has ", entries, " entries, wanted one a GPU (node.gpus is ",
               profile.node.gpus, ") or none");
}

void check_binding(const ClusterProfile& profile, const std::string& origin) {
  const auto& node = profile.node;
  const auto& binding = profile.binding;
  check_one_a_gpu(binding.gpu_cores.size(), "binding.gpu_cores", profile, origin);
  check_one_a_gpu(binding.gpu_numa.size(), "binding.gpu_numa", profile, origin);
  const int threads = node.cores * node.threads_per_core;
  ISOBAR_CHECK(threads == 0 || binding.cpus_per_rank * std::max(1, node.gpus) <= threads, origin,
               ": 'binding.cpus_per_rank' is ", binding.cpus_per_rank, " for each of ", node.gpus,
               " GPUs, and a node has ", threads, " (node.cores times node.threads_per_core)");
  for (const auto& cores : binding.gpu_cores) {
    const int highest = highest_core(cores);
    ISOBAR_CHECK(highest >= 0 && (threads == 0 || highest < threads), origin,
                 ": 'binding.gpu_cores' has '", cores, "', wanted cores such as 0-15",
                 threads > 0 ? detail::join(", below ", threads) : "");
  }
  for (const int numa : binding.gpu_numa) {
    ISOBAR_CHECK(numa >= 0 && (node.numa_nodes == 0 || numa < node.numa_nodes), origin,
                 ": 'binding.gpu_numa' has ", numa, ", wanted from 0 to below node.numa_nodes (",
                 node.numa_nodes, ")");
  }
}

void check_variables(const std::map<std::string, std::string>& environment, const std::string& key,
                     const std::string& origin) {
  for (const auto& [name, value] : environment) {
    ISOBAR_CHECK(is_match(name, "[A-Za-z_][A-Za-z0-9_]*"), origin, ": '", key, "' has '", name,
                 "', which cannot be a variable's name");
  }
}

/// What is refused is not shown: it may be a secret that should never have been written here.
void check_secrets(const ClusterProfile& profile, const std::string& origin) {
  for (const auto& [name, place] : profile.secrets) {
    ISOBAR_CHECK(place.starts_with("/") || is_match(place, "env:[A-Za-z_][A-Za-z0-9_]*"), origin,
                 ": 'secrets.", name, "' must say where the secret is, as env:VARIABLE or as the ",
                 "absolute path of a file; the secret itself does not belong here");
  }
}

void check_unverified(const ProfileDraft& draft, const std::string& origin) {
  const std::vector<std::string> keys(draft.given.begin(), draft.given.end());
  for (const auto& [key, reason] : draft.profile.unverified) {
    const auto is_meant = [&marked = key](const std::string& given) {
      return given == marked || given.starts_with(marked + ".");
    };
    ISOBAR_CHECK(std::any_of(keys.begin(), keys.end(), is_meant), origin, ": 'unverified' has '",
                 key, "', which is no key of this profile",
                 nearest(key, keys) ? "; did you mean '" + *nearest(key, keys) + "'?" : "");
  }
}

}  // namespace

void check_key_word(const std::string& word, const std::string& what, const std::string& origin) {
  ISOBAR_CHECK(is_match(word, "[a-z0-9][a-z0-9_-]*"), origin, ": '", word, "' cannot be ", what,
               ", wanted small letters, digits, - and _");
}

void check_draft(const ProfileDraft& draft, const std::string& origin) {
  const auto& profile = draft.profile;
  ISOBAR_CHECK(!profile.title.empty(), origin, ": 'title' is missing");
  ISOBAR_CHECK(!profile.gpu_platform.empty(), origin,
               ": 'gpu_platform' is missing, wanted cuda, rocm or none");
  check_patterns(profile, origin);
  check_queues(profile, origin);
  check_binding(profile, origin);
  check_variables(profile.environment, "environment", origin);
  check_variables(profile.container.environment, "container.environment", origin);
  check_secrets(profile, origin);
  check_unverified(draft, origin);
}

}  // namespace isobar
