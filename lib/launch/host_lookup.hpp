// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// Who is asked where a node is. Tests put others in their place.
struct HostLookup {
  /// The numeric addresses of a name; empty if it has none.
  std::function<std::vector<std::string>(const std::string& name)> resolve;
  /// What `scontrol show node` prints of a node; empty where Slurm does not answer.
  std::function<std::string(const std::string& node)> slurm_record;
};

/// The system's resolver, and scontrol.
HostLookup system_lookup();

/// The numeric addresses of a node of this job: by the resolver; where that has none and this is a
/// job of Slurm's, by what Slurm said of cloud nodes (SLURM_NODE_ALIASES), then by Slurm's record
/// of the node, whose NodeAddr is how Slurm itself reaches it. Empty where none knows.
std::vector<std::string> node_addresses(const std::string& node, const HostLookup& lookup);

/// The address from which srun started this step, where that is `node` for certain: of a batch
/// script, which runs on the job's first node. Empty otherwise. PMIx has no address to offer: its
/// servers listen on the loopback, or are those of the own node.
std::vector<std::string> batch_host_address(const std::string& node);

/// The node of task 0 of this step: the first of the list, but where a file of hosts says where
/// each task is, the first in that. Throws UsageError where such a file cannot be read.
std::string node_of_task_0(const std::string& list);

/// The first host of Slurm's list of nodes, such as "n[08-11,20],gpu3".
std::string first_host(const std::string& list);

}  // namespace isobar
