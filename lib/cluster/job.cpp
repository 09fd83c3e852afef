// SPDX-License-Identifier: Apache-2.0
// From a request to a plan: what the machine refuses comes first, then the account, then how ranks
// lie on a node, then what a reader has to know. plan_job() is the only caller of everything here;
// batch_script() writes the plan down and decides nothing.
#include <isobar/cluster/job.hpp>

#include <isobar/core/error.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <regex>
#include <string>
#include <vector>

#include "cluster/queue_choice.hpp"

namespace isobar {
namespace {

/// Slurm takes a signal up to 65535 seconds before the end.
constexpr int kMostSignalMinutes = 65535 / 60;

bool has_slurm(const ClusterProfile& profile) { return profile.slurm.launcher == "srun"; }

void check_size(const ClusterProfile& profile, const JobRequest& request) {
  ISOBAR_CHECK(request.nodes > 0, "job on ", profile.name, ": --nodes is ", request.nodes,
               ", wanted 1 or more");
  ISOBAR_CHECK(request.spares >= 0, "job on ", profile.name, ": --spares is ", request.spares,
               ", wanted 0 or more");
  ISOBAR_CHECK(request.minutes >= 0, "job on ", profile.name, ": --time is ", request.minutes,
               " minutes, wanted more than 0");
  const int most = profile.node.count > 0 ? profile.node.count : std::numeric_limits<int>::max();
  const auto wanted = std::int64_t{request.nodes} + request.spares;
  ISOBAR_CHECK(wanted <= most, "job on ", profile.name, ": ", wanted,
               " nodes are wanted, spares included, and the machine has ", most,
               "; lower --nodes or --spares");
}

std::string account_of(const ClusterProfile& profile, const JobRequest& request) {
  const auto account = request.account.empty() ? profile.account : request.account;
  const auto& slurm = profile.slurm;
  const auto example =
      slurm.account_example.empty() ? "" : " such as '" + slurm.account_example + "'";
  ISOBAR_CHECK(!account.empty() || !slurm.wants_account, "job on ", profile.name,
               ": it needs an account to pay for the job; give --account", example,
               ", or `account` in the file that ISOBAR_CLUSTER_CONFIG names");
  const bool fits = account.empty() || slurm.account_pattern.empty() ||
                    std::regex_match(account, std::regex(slurm.account_pattern));
  ISOBAR_CHECK(fits, "job on ", profile.name, ": '", account,
               "' is no account of this machine, wanted one", example,
               "; see --account, or `account` in the file that ISOBAR_CLUSTER_CONFIG names");
  return account;
}

/// One rank a GPU; without GPUs, as many as have the profile's cores each.
int usual_ranks(const ClusterProfile& profile) {
  if (profile.node.gpus > 0) return profile.node.gpus;
  return std::max(1, profile.node.cores / std::max(1, profile.binding.cpus_per_rank));
}

void place_ranks(const ClusterProfile& profile, const JobRequest& request, JobPlan& plan) {
  const auto& node = profile.node;
  const int asked = request.ranks_per_node;
  plan.ranks_per_node = asked == 0 ? usual_ranks(profile) : asked;
  const bool on_gpus = node.gpus > 0;
  const int most = on_gpus ? node.gpus : node.cores;
  ISOBAR_CHECK(asked >= 0, "job on ", profile.name, ": --ranks-per-node is ", asked,
               ", wanted 1 or more");
  ISOBAR_CHECK(most == 0 || plan.ranks_per_node <= most, "job on ", profile.name, ": ",
               plan.ranks_per_node, " ranks a node are wanted, and a node has ", most,
               on_gpus ? " GPUs" : " cores", "; lower --ranks-per-node to ", most, " or less");
  plan.cpus_per_rank = std::max(1, profile.binding.cpus_per_rank);
  plan.cpu_bind = profile.binding.cpu_bind.empty() ? "cores" : profile.binding.cpu_bind;
  // Beside a GPU a rank keeps the cores that are near it. Without, the ranks share the node.
  if (!on_gpus && node.cores > 0) {
    plan.cpus_per_rank = std::max(1, node.cores / plan.ranks_per_node);
  }
}

/// The limit, and the signal before it. A short job has the signal after half of its time.
void set_times(const ClusterProfile& profile, const JobRequest& request, JobPlan& plan) {
  plan.minutes = request.minutes > 0 ? request.minutes : plan.queue.most_minutes;
  plan.signal_minutes = request.signal_minutes;
  ISOBAR_CHECK(request.signal_minutes >= 0 && request.signal_minutes <= kMostSignalMinutes,
               "job on ", profile.name, ": the signal before the end is wanted ",
               request.signal_minutes, " minutes before, and Slurm takes 0 to ",
               kMostSignalMinutes);
  if (plan.minutes == 0 || plan.signal_minutes <= plan.minutes / 2) return;
  plan.signal_minutes = static_cast<int>(plan.minutes / 2);
  plan.warnings.push_back(
      fmt::format("the signal before the end comes {} minutes before it, not {}: the job has {}",
                  plan.signal_minutes, request.signal_minutes, plan.minutes));
}

void set_surroundings(const ClusterProfile& profile, const JobRequest& request, JobPlan& plan) {
  const bool contained = !request.container.empty();
  ISOBAR_CHECK(!contained || !profile.container.command.empty(), "job on ", profile.name,
               ": how programs run in a container is not known here; leave out --container, or "
               "set container.command in the file that ISOBAR_CLUSTER_CONFIG names");
  plan.modules = contained ? profile.container.modules : profile.modules;
  if (!request.modules.empty()) {
    if (!contained) plan.modules.clear();  // those of a container start it
    plan.modules.insert(plan.modules.end(), request.modules.begin(), request.modules.end());
  }
  const auto set = [&](const std::string& name, const std::string& value) {
    std::erase_if(plan.environment, [&](const auto& each) { return each.first == name; });
    plan.environment.emplace_back(name, value);
  };
  for (const auto& [name, value] : profile.environment) set(name, value);
  if (contained) {
    for (const auto& [name, value] : profile.container.environment) set(name, value);
  }
  for (const auto& [name, value] : request.environment) set(name, value);
}

void warn_of_limits(const ClusterProfile& profile, const JobRequest& request, JobPlan& plan) {
  const auto& queue = plan.queue;
  if (request.minutes == 0 && plan.minutes > 0) {
    plan.warnings.push_back(
        fmt::format("no --time is given: the job asks for all of queue '{}', {}; less starts "
                    "sooner",
                    queue.name, minutes_text(plan.minutes)));
  }
  if (request.spares > 0) {
    plan.warnings.push_back(
        fmt::format("{} nodes with the spares, all of which are paid for", plan.nodes));
  }
  if (profile.node.gpus > plan.ranks_per_node) {
    plan.warnings.push_back(fmt::format("{} of the {} GPUs of each node have no rank",
                                        profile.node.gpus - plan.ranks_per_node,
                                        profile.node.gpus));
  }
  if (!request.reservation.empty()) {
    plan.warnings.push_back(fmt::format(
        "the reservation '{}' decides how many nodes there are and for how long, not queue '{}'",
        request.reservation, queue.name));
  } else if (queue.most_nodes == 0) {
    plan.warnings.push_back(
        fmt::format("how many nodes queue '{}' takes is not known; Slurm may refuse {}", queue.name,
                    plan.nodes));
  }
  if (plan.minutes == 0) {
    plan.warnings.push_back(fmt::format(
        "how long queue '{}' takes is not known and no --time is given: Slurm's default holds",
        queue.name));
  } else if (queue.most_minutes == 0) {
    plan.warnings.push_back(
        fmt::format("how long queue '{}' takes is not known; Slurm may refuse {}", queue.name,
                    minutes_text(plan.minutes)));
  }
}

/// Keys of the profile's file whose values the job stands on.
std::vector<std::string> used_keys(const ClusterProfile& profile, const JobRequest& request,
                                   const JobPlan& plan) {
  std::vector<std::string> keys{"node.count", "node.gpus", "node.cores", "binding.cpus_per_rank"};
  const auto add = [&](bool used, const std::string& key) {
    if (used) keys.push_back(key);
  };
  const auto queue = "queues." + plan.queue.name;
  for (const char* part : {"partition", "qos", "least_nodes", "most_nodes", "most_minutes"}) {
    add(true, queue + "." + part);
  }
  add(!plan.account.empty(), "slurm.account_pattern");
  add(!profile.slurm.gpu_request.empty(), "slurm.gpu_request");
  add(!profile.slurm.srun_options.empty(), "slurm.srun_options");
  add(!profile.slurm.directives.empty(), "slurm.directives");
  add(true, "slurm.exclusive");
  add(!profile.binding.cpu_bind.empty(), "binding.cpu_bind");
  add(!profile.binding.gpu_visibility.empty(), "binding.gpu_visibility");
  add(!plan.modules.empty() && plan.modules == profile.modules, "modules");
  if (!request.container.empty()) {
    for (const char* part : {"command", "modules", "binds", "environment"}) {
      add(true, std::string("container.") + part);
    }
  }
  for (const auto& [name, value] : plan.environment) {
    const auto found = profile.environment.find(name);
    add(found != profile.environment.end() && found->second == value, "environment." + name);
  }
  return keys;
}

/// The key, or the section that it is in, to which the profile gives the reason.
std::string marked_key(const ClusterProfile& profile, std::string key, const std::string& reason) {
  for (auto dot = key.rfind('.'); dot != std::string::npos; dot = key.rfind('.')) {
    if (unverified_reason(profile, key.substr(0, dot)) != reason) break;
    key.resize(dot);
  }
  return key;
}

void warn_of_unverified(const ClusterProfile& profile, const JobRequest& request, JobPlan& plan) {
  std::vector<std::string> warnings;
  for (const auto& key : used_keys(profile, request, plan)) {
    const auto reason = unverified_reason(profile, key);
    if (!reason) continue;
    const auto marked = marked_key(profile, key, *reason);
    const auto warning = fmt::format("not certain: {}: {}", marked, *reason);
    if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) {
      warnings.push_back(warning);
    }
  }
  plan.warnings.insert(plan.warnings.end(), warnings.begin(), warnings.end());
}

}  // namespace

JobPlan plan_job(const ClusterProfile& profile, const JobRequest& request) {
  check_size(profile, request);
  JobPlan plan;
  plan.nodes = request.nodes + request.spares;
  if (has_slurm(profile)) {
    plan.queue = choose_queue(profile, request);
    plan.account = account_of(profile, request);
  }
  place_ranks(profile, request, plan);
  set_surroundings(profile, request, plan);
  if (has_slurm(profile)) {
    set_times(profile, request, plan);
    warn_of_limits(profile, request, plan);
    warn_of_unverified(profile, request, plan);
  }
  return plan;
}

}  // namespace isobar
