// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/profile.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace isobar {

/// What tells one machine from another, as a process sees it.
struct MachineFacts {
  std::map<std::string, std::string> environment;
  std::string host_name;  ///< with its domain, where it has one
  /// A file's text without the line end; empty where it cannot be read.
  std::function<std::string(const std::string& path)> text_of;
  std::function<bool(const std::string& path)> exists;
  bool has_slurm = false;  ///< sbatch is on the PATH, or this is a job of Slurm's
};

/// Of this process. Asks the resolver for the host's domain, for two seconds at most.
MachineFacts read_machine_facts();

/// Which machine this is.
struct Detection {
  /// One: it is that. Several, sorted: they look alike here, or what is seen contradicts itself.
  /// None: an unknown machine.
  std::vector<std::string> clusters;
  /// For people, such as "HPC_SYSTEM=leonardo"; names what was taken for left over.
  std::string reason;
};

/// ISOBAR_CLUSTER, else what belongs to the machine itself: files, its host name, and a host name
/// like many together with a marker. Variables and SLURM_CLUSTER_NAME travel, by ssh, sbatch and
/// start-up files: they count where the machine says nothing, and decide between several; where it
/// says another machine, they are left over, and `reason` tells. Variables against a host name that
/// many machines have, and files against a host name, decide nothing: all of them are returned.
/// Where nothing is proof, all markers of a profile are (two at least). Where no profile fits:
/// "local" without Slurm, none with it. Capitals do not matter. Throws UsageError where
/// ISOBAR_CLUSTER names no profile.
Detection detect_cluster(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts);

/// The profile of `name`, or, where it is empty, of this machine. Throws UsageError where the
/// machine is unknown or several look alike, saying how to name it.
const ClusterProfile& profile_here(const std::vector<ClusterProfile>& profiles,
                                   const std::string& name);

}  // namespace isobar
