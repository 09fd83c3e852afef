// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/launch/environment.hpp>

#include <string>
#include <vector>

namespace isobar {

/// Where rank 0 listens, as far as this process can know before it has spoken to anybody.
struct Endpoint {
  /// Numeric, to be tried in this order.
  std::vector<std::string> addresses;
  int port = 0;
  /// Where that port is not the user's choice: the next ones to try.
  std::vector<int> other_ports = {};
  /// The same on all ranks of a launch and on no rank of another, as far as the launcher tells
  /// them apart.
  std::string token;
};

/// MASTER_ADDR and MASTER_PORT, else the first node of the Slurm step, at a port that is the
/// step's; no addresses where neither is set. Under a torchrun whose agent holds MASTER_PORT
/// itself, ports that follow from it. May ask the system's resolver, and blocks as long. In a job
/// of Slurm's, a host that the resolver does not know is looked for in SLURM_NODE_ALIASES and in
/// scontrol's record of the node, for half a minute at most; the first node of a batch job also
/// where srun says that it started from. Throws UsageError for a host without an address and a port
/// that is none.
Endpoint read_endpoint(const LaunchEnvironment& launch);

/// Where the ranks of a launch meet for a world after `earlier` others, which may be alive and keep
/// their ports: at ports that follow from token and number, with a token of its own. For the first
/// it is `launch` itself.
Endpoint endpoint_of_world(Endpoint launch, int earlier);

}  // namespace isobar
