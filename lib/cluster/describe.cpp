// SPDX-License-Identifier: Apache-2.0
// A profile as lines. What is not known (empty, 0) has none. Marks of what is not certain and of
// what the user has set come with the line whose key they name, whether it is the value's, that of
// a section around it or, for lines that say several values, one below.
#include <isobar/cluster/describe.hpp>

#include <isobar/cluster/job.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cluster/shell_text.hpp"

namespace isobar {
namespace {

bool is_inside(const std::string& key, const std::string& section) {
  return key.starts_with(section + ".");
}

/// Whether the user's file has set the key, one below it or all that it is in.
bool is_overlaid(const ClusterProfile& profile, const std::string& key) {
  const auto& keys = profile.overlaid;
  return std::any_of(keys.begin(), keys.end(), [&](const std::string& set) {
    return set == key || is_inside(set, key) || is_inside(key, set);
  });
}

std::string reasons_of(const ClusterProfile& profile, const std::string& key) {
  std::vector<std::string> reasons;
  if (const auto own = unverified_reason(profile, key)) reasons.push_back(*own);
  for (const auto& [marked, reason] : profile.unverified) {
    if (!reason.empty() && is_inside(marked, key)) {
      reasons.push_back(marked.substr(key.size() + 1) + ": " + reason);
    }
  }
  return join_words(reasons, "; ");
}

class Lines {
 public:
  explicit Lines(const ClusterProfile& profile) : profile_(profile) {}

  void add(const std::string& key, const std::string& value) {
    if (value.empty()) return;
    lines_.push_back({key, value, reasons_of(profile_, key), is_overlaid(profile_, key)});
  }
  void add(const std::string& key, const std::vector<std::string>& values) {
    add(key, join_words(values, ", "));
  }
  void add(const std::string& key, double value) {
    if (value != 0) add(key, fmt::format("{:g}", value));
  }
  void add(const std::string& key, int value) {
    if (value != 0) add(key, std::to_string(value));
  }
  void add_bytes(const std::string& key, std::int64_t bytes) {
    if (bytes != 0) add(key, format_bytes(bytes));
  }
  void add(const std::string& section, const std::map<std::string, std::string>& entries) {
    for (const auto& [name, value] : entries) add(section + "." + name, value);
  }

  std::vector<ProfileLine> take() { return std::move(lines_); }

 private:
  const ClusterProfile& profile_;
  std::vector<ProfileLine> lines_;
};

std::string queue_text(const Queue& queue) {
  std::vector<std::string> parts;
  const auto add = [&](bool wanted, const std::string& part) {
    if (wanted) parts.push_back(part);
  };
  add(!queue.partition.empty(), "partition " + queue.partition);
  add(!queue.qos.empty(), "QoS " + queue.qos);
  add(queue.least_nodes > 1, fmt::format("from {} nodes", queue.least_nodes));
  add(queue.most_nodes > 0,
      fmt::format("to {} node{}", queue.most_nodes, queue.most_nodes == 1 ? "" : "s"));
  add(queue.most_minutes > 0, "to " + minutes_text(queue.most_minutes));
  add(queue.on_request, "on request");
  add(!queue.note.empty(), queue.note);
  return join_words(parts, ", ");
}

void add_slurm(Lines& lines, const ClusterProfile& profile) {
  const auto& slurm = profile.slurm;
  lines.add("account", profile.account);
  lines.add("slurm.account_pattern", slurm.account_pattern);
  lines.add("slurm.account_example", slurm.account_example);
  lines.add("slurm.gpu_request", slurm.gpu_request);
  lines.add("slurm.directives", slurm.directives);
  lines.add("slurm.srun_options", slurm.srun_options);
  lines.add("slurm.most_queued_jobs", slurm.most_queued_jobs);
  for (const auto& queue : slurm.queues) lines.add("queues." + queue.name, queue_text(queue));
}

void add_node(Lines& lines, const NodeShape& node) {
  lines.add("node.count", node.count);
  lines.add("node.gpus", node.gpus);
  lines.add("node.gpu", node.gpu);
  lines.add_bytes("node.gpu_memory_bytes", node.gpu_memory_bytes);
  lines.add("node.cpu", node.cpu);
  lines.add("node.cores", node.cores);
  if (node.cores > 0) lines.add("node.threads_per_core", node.threads_per_core);
  lines.add("node.numa_nodes", node.numa_nodes);
  lines.add_bytes("node.memory_bytes", node.memory_bytes);
  lines.add("node.local_disk", node.local_disk);
}

void add_binding(Lines& lines, const Binding& binding) {
  lines.add("binding.cpus_per_rank", binding.cpus_per_rank);
  lines.add("binding.cpu_bind", binding.cpu_bind);
  lines.add("binding.gpu_cores", binding.gpu_cores);
  std::vector<std::string> numa;
  for (const int each : binding.gpu_numa) numa.push_back(std::to_string(each));
  lines.add("binding.gpu_numa", numa);
  lines.add("binding.gpu_visibility", binding.gpu_visibility);
}

void add_network(Lines& lines, const NetworkShape& network) {
  lines.add("network.nic", network.nic);
  lines.add("network.hcas", network.hcas);
  lines.add("network.interfaces", network.interfaces);
  lines.add("network.gbit_s_per_gpu", network.gbit_s_per_gpu);
  lines.add("network.gbit_s_per_node", network.gbit_s_per_node);
  lines.add("network.topology", network.topology);
  lines.add("network.cell_nodes", network.cell_nodes);
}

std::string internet_text(Internet internet) {
  return internet == Internet::unknown ? "" : internet == Internet::yes ? "yes" : "no";
}

std::map<std::string, std::string> environment_of(const ClusterProfile& profile) {
  auto environment = profile.environment;
  environment["ISOBAR_CLUSTER"] = profile.name;
  return environment;
}

}  // namespace

std::vector<ProfileLine> describe_profile(const ClusterProfile& profile) {
  Lines lines(profile);
  lines.add("title", profile.title);
  lines.add("gpu_platform", profile.gpu_platform);
  lines.add("architecture", profile.architecture);
  const auto& detection = profile.detection;
  lines.add("detection.environment", detection.environment);
  lines.add("detection.files", detection.files);
  lines.add("detection.slurm_cluster_name", detection.slurm_cluster_name);
  lines.add("detection.host_name", detection.host_name);
  lines.add("detection.host_name_alike", detection.host_name_alike);
  lines.add("detection.marker_variables", detection.marker_variables);
  lines.add("detection.marker_paths", detection.marker_paths);
  add_slurm(lines, profile);
  add_node(lines, profile.node);
  add_binding(lines, profile.binding);
  add_network(lines, profile.network);
  lines.add("environment", profile.environment);
  lines.add("modules", profile.modules);
  lines.add("container.command", profile.container.command);
  lines.add("container.modules", profile.container.modules);
  lines.add("container.binds", profile.container.binds);
  lines.add("container.environment", profile.container.environment);
  lines.add("roots", profile.roots);
  lines.add("data_roots", profile.data_roots);
  lines.add("secrets", profile.secrets);
  lines.add("compute_internet", internet_text(profile.compute_internet));
  lines.add("sources", profile.sources);
  return lines.take();
}

std::string environment_lines(const ClusterProfile& profile) {
  std::string text;
  for (const auto& [name, value] : environment_of(profile)) text += name + "=" + value + "\n";
  return text;
}

std::string export_lines(const ClusterProfile& profile) {
  std::string text;
  for (const auto& [name, value] : environment_of(profile)) {
    text += "export " + name + "=" + quoted_with_variables(value) + "\n";
  }
  return text;
}

}  // namespace isobar
