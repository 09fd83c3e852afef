// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/make_communicator.hpp>
#include <isobar/launch/environment.hpp>

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "comm/backend/first_cause.hpp"
#include "comm/control/control.hpp"

namespace isobar {

/// The ranks of one launch, after they have found each other and before they have a
/// transport.
struct Rendezvous {
  LaunchEnvironment launch;
  std::shared_ptr<FirstCause> cause;
  std::shared_ptr<Control> control;
  /// Of this world alone, and of no other of the same launch; the same on all its ranks.
  std::string token;
  /// Whether all ranks have one node_identity(), and each a fabric().
  bool is_on_one_node = true;
  bool has_fabrics = false;

  bool on_one_node() const { return is_on_one_node; }
  bool has_fabric() const { return has_fabrics; }
};

/// How many worlds this process has met in, by the token of their launch. The same on all ranks,
/// for a world begins on all of them or on none.
using EarlierWorlds = std::map<std::string, int>;

/// How long a world of `size` may take to come together, by CommunicatorOptions::start_timeout.
std::chrono::milliseconds start_limit(std::chrono::milliseconds start_timeout, int size);

/// Finds rank 0 by MASTER_ADDR and MASTER_PORT, else by Slurm's variables, else by
/// MPI, which `by_mpi` takes at once; then opens the control connection. The n-th world of a
/// process meets the n-th of the others: `earlier` says which it is, and counts it. Collective;
/// blocks.
Rendezvous meet(const LaunchEnvironment& launch, const CommunicatorOptions& options, bool by_mpi,
                EarlierWorlds& earlier);

/// Those that are left of `launch` meet again, at the port after the one of their last world,
/// and are numbered anew: the launch in what is found is theirs. Throws CommError where rank 0
/// is lost too, for a rank that comes when the others have gone on, and where fewer than half of
/// the lost world come. Blocks.
Rendezvous meet_survivors(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                          const SurvivorOptions& survivors);

}  // namespace isobar
