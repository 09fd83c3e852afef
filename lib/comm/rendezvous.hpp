// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/environment.hpp>
#include <isobar/comm/make_communicator.hpp>

#include <memory>
#include <string>
#include <vector>

#include "comm/control/control.hpp"
#include "comm/first_cause.hpp"

namespace isobar {

/// The ranks of one launch, after they have found each other and before they have a
/// transport.
struct Rendezvous {
  LaunchEnvironment launch;
  std::shared_ptr<FirstCause> cause;
  std::shared_ptr<Control> control;
  /// Of this world alone, and of no other of the same launch; the same on all its ranks.
  std::string token;
  /// node_identity() and fabric() of every rank.
  std::vector<std::string> nodes;
  std::vector<std::string> fabrics;

  bool on_one_node() const;
  bool has_fabric() const;
};

/// Where rank 0 listens, as far as this process can know before it has spoken to anybody.
struct Endpoint {
  std::vector<std::string> addresses;
  int port = 0;
  /// Where that port is not the user's choice: the next ones to try.
  std::vector<int> other_ports = {};
  std::string token;
};

/// True for a launcher from which MPI can start.
bool starts_mpi(const LaunchEnvironment& launch);

/// Finds rank 0 by MASTER_ADDR and MASTER_PORT, else by Slurm's variables, else by
/// MPI, which `by_mpi` takes at once; then opens the control connection. Collective;
/// blocks.
Rendezvous meet(const LaunchEnvironment& launch, const CommunicatorOptions& options, bool by_mpi);

/// Those that are left of `launch` meet again, at the port after the one of their last world,
/// and are numbered anew: the launch in what is found is theirs. Throws CommError where rank 0
/// is lost too, and for a rank that comes when the others have gone on. Blocks.
Rendezvous meet_survivors(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                          const SurvivorOptions& survivors);

/// MASTER_ADDR and MASTER_PORT; no addresses where they are not set. Under a torchrun whose agent
/// holds that port itself, ports that follow from it. Throws UsageError.
Endpoint master_endpoint();

/// What tells jobs apart that were started by hand with one MASTER_PORT, for people to read: the
/// program, its arguments and its folder, or ISOBAR_JOB. Empty where the launcher tells.
std::string job_of(const LaunchEnvironment& launch);

/// The first node of a Slurm step, at a port that is the step's; no addresses outside of
/// one. Throws UsageError.
Endpoint slurm_endpoint();

/// The first host of Slurm's list of nodes, such as "n[08-11,20],gpu3".
std::string first_host(const std::string& list);

}  // namespace isobar
