// SPDX-License-Identifier: Apache-2.0
// A section of YAML into a profile, by type. profile.cpp calls it once for a machine's own file and
// once for the user's; both have the same keys. What is not in a file stays as it was, so the
// second reading is the merge, and there is no other. Keys are named as the profile's members.
#include "cluster/profile_draft.hpp"

#include <isobar/cluster/job.hpp>
#include <isobar/core/error.hpp>

#include <algorithm>
#include <cstdint>

namespace isobar {
namespace {

using Texts = std::map<std::string, std::string>;

template <typename T>
void take(const Config& section, const std::string& key, T& value) {
  value = section.get<T>(key, value);
}

void take(const Config& section, const std::string& key, Texts& entries) {
  for (const auto& [name, text] : section.get<Texts>(key, {})) {
    if (text.empty()) {
      entries.erase(name);
    } else {
      entries[name] = text;
    }
  }
}

template <ConfigNumber T>
void take_number(const Config& section, const std::string& key, T& value, double least = 0) {
  value = section.get<T>(key, value, at_least(least));
}

void take_bytes(const Config& section, const std::string& key, std::int64_t& value) {
  value = section.get_bytes(key, value);
}

void take_choice(const Config& section, const std::string& key,
                 const std::vector<std::string>& choices, std::string& value) {
  if (section.has(key)) value = section.one_of(key, choices);
}

/// Folders by name. They are used from many places, so none can be relative to one.
void take_folders(const Config& section, const std::string& key, Texts& entries) {
  take(section, key, entries);
  if (!section.has(key)) return;
  const auto written = section.child(key);
  for (const auto& name : written.keys()) {
    const auto folder = written.get<std::string>(name);
    const bool is_home = folder == "~" || folder.starts_with("~/");
    ISOBAR_CHECK(folder.empty() || folder[0] == '/' || folder[0] == '$' || is_home,
                 written.origin(name), ": '", key, ".", name, "' is '", folder,
                 "', wanted an absolute folder: one that begins with /, ~/ or a $VARIABLE");
  }
}

void take_minutes(const Config& section, const std::string& key, std::int64_t& value,
                  const std::string& origin) {
  const auto text = section.get<std::string>(key, "");
  if (text.empty()) return;
  try {
    value = parse_minutes(text);
  } catch (const UsageError& error) {
    throw UsageError(detail::join(origin, ": '", key, "': ", error.what()));
  }
}

void read_detection(const Config& section, DetectionRules& rules) {
  take(section, "environment", rules.environment);
  take(section, "files", rules.files);
  take(section, "slurm_cluster_name", rules.slurm_cluster_name);
  take(section, "host_name", rules.host_name);
  take(section, "host_name_alike", rules.host_name_alike);
  take(section, "marker_variables", rules.marker_variables);
  take(section, "marker_paths", rules.marker_paths);
}

void read_slurm(const Config& section, SlurmHabits& slurm) {
  take_choice(section, "launcher", {"srun", "mpirun"}, slurm.launcher);
  take(section, "wants_account", slurm.wants_account);
  take(section, "account_pattern", slurm.account_pattern);
  take(section, "account_example", slurm.account_example);
  take(section, "directives", slurm.directives);
  take(section, "gpu_request", slurm.gpu_request);
  take(section, "srun_options", slurm.srun_options);
  take(section, "exclusive", slurm.exclusive);
  take_number(section, "most_queued_jobs", slurm.most_queued_jobs);
}

void read_queue(const Config& section, Queue& queue, const std::string& origin) {
  take(section, "partition", queue.partition);
  take(section, "qos", queue.qos);
  take_number(section, "least_nodes", queue.least_nodes, 1);
  take_number(section, "most_nodes", queue.most_nodes);
  take_minutes(section, "most_minutes", queue.most_minutes, origin + ": queues." + queue.name);
  take(section, "on_request", queue.on_request);
  take(section, "note", queue.note);
}

/// In the file's order; those that are new follow those that were there.
void read_queues(const Config& section, std::vector<Queue>& queues, const std::string& origin) {
  for (const auto& name : section.keys()) {
    auto queue = std::find_if(queues.begin(), queues.end(),
                              [&](const Queue& each) { return each.name == name; });
    if (queue == queues.end()) {
      check_key_word(name, "a queue's name", origin);
      queue = queues.insert(queue, Queue());
      queue->name = name;
    }
    read_queue(section.child(name), *queue, origin);
  }
}

void read_node(const Config& section, NodeShape& node) {
  take_number(section, "count", node.count);
  take_number(section, "gpus", node.gpus);
  take(section, "gpu", node.gpu);
  take_bytes(section, "gpu_memory_bytes", node.gpu_memory_bytes);
  take(section, "cpu", node.cpu);
  take_number(section, "cores", node.cores);
  take_number(section, "threads_per_core", node.threads_per_core, 1);
  take_number(section, "numa_nodes", node.numa_nodes);
  take_bytes(section, "memory_bytes", node.memory_bytes);
  take(section, "local_disk", node.local_disk);
}

void read_binding(const Config& section, Binding& binding) {
  take_number(section, "cpus_per_rank", binding.cpus_per_rank, 1);
  take(section, "cpu_bind", binding.cpu_bind);
  take(section, "gpu_cores", binding.gpu_cores);
  take(section, "gpu_numa", binding.gpu_numa);
  take(section, "gpu_visibility", binding.gpu_visibility);
}

void read_network(const Config& section, NetworkShape& network) {
  take(section, "nic", network.nic);
  take(section, "hcas", network.hcas);
  take(section, "interfaces", network.interfaces);
  take_number(section, "gbit_s_per_gpu", network.gbit_s_per_gpu);
  take_number(section, "gbit_s_per_node", network.gbit_s_per_node);
  take(section, "topology", network.topology);
  take_number(section, "cell_nodes", network.cell_nodes);
}

void read_container(const Config& section, ContainerHabits& container) {
  take(section, "command", container.command);
  take(section, "modules", container.modules);
  take(section, "binds", container.binds);
  take(section, "environment", container.environment);
}

void read_internet(const Config& section, Internet& internet) {
  std::string word;
  take_choice(section, "compute_internet", {"yes", "no", "unknown"}, word);
  if (word.empty()) return;
  internet = word == "yes" ? Internet::yes : word == "no" ? Internet::no : Internet::unknown;
}

void read_profile(const Config& section, ClusterProfile& profile, const std::string& origin) {
  take(section, "title", profile.title);
  take_choice(section, "gpu_platform", {"cuda", "rocm", "none"}, profile.gpu_platform);
  take_choice(section, "architecture", {"x86_64", "aarch64"}, profile.architecture);
  read_detection(section.child("detection"), profile.detection);
  read_slurm(section.child("slurm"), profile.slurm);
  read_queues(section.child("queues"), profile.slurm.queues, origin);
  read_node(section.child("node"), profile.node);
  read_binding(section.child("binding"), profile.binding);
  read_network(section.child("network"), profile.network);
  take(section, "environment", profile.environment);
  take(section, "modules", profile.modules);
  read_container(section.child("container"), profile.container);
  take_folders(section, "roots", profile.roots);
  take_folders(section, "data_roots", profile.data_roots);
  take(section, "secrets", profile.secrets);
  take(section, "account", profile.account);
  read_internet(section, profile.compute_internet);
  take(section, "unverified", profile.unverified);
  take(section, "sources", profile.sources);
}

/// Before anything is read, since defaults would be among them.
std::vector<std::string> keys_given_in(const Config& section, std::size_t path_length) {
  std::vector<std::string> keys;
  for (const auto& line : section.flatten()) {
    const auto key = line.substr(path_length, line.find('=') - path_length);
    if (!key.starts_with("unverified.")) keys.push_back(key);
  }
  return keys;
}

}  // namespace

std::vector<std::string> read_over(ProfileDraft& draft, const Config& section,
                                   const std::string& path, const std::string& origin) {
  auto keys = keys_given_in(section, path.size());
  for (const auto& key : keys) draft.profile.unverified.erase(key);
  draft.given.insert(keys.begin(), keys.end());
  read_profile(section, draft.profile, origin);
  return keys;
}

}  // namespace isobar
