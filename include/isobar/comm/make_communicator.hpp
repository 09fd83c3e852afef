// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <memory>
#include <string>

namespace isobar {

struct CommunicatorOptions {
  /// "auto", "nccl", "mpi", "gloo", "shm" (ranks of one node, over shared memory) or
  /// "self" (one rank).
  ///
  /// `auto` is self for one rank and NCCL where tensors lie on GPUs. On CPUs it is shared
  /// memory where all ranks are on one node, MPI where the nodes have a fabric that
  /// MPI drives (InfiniBand, Slingshot, Omni-Path) and a launcher that it starts
  /// from, and Gloo over TCP otherwise.
  std::string backend = "auto";
  /// Where the tensors lie: "cpu", or "cuda" for CPU tensors and those of rank_device().
  /// NCCL then takes the GPU's, and what `auto` is on CPUs takes the CPU's; of the other
  /// backends one takes both, and GPU tensors go through host memory.
  std::string device = "cpu";
  /// Floating-point sums have the bits of a sum in the order of ranks, whatever the
  /// transport, the layout of nodes and the place of a value in its buffer. Costs
  /// bandwidth. Off, results are only the same on every rank.
  bool deterministic = false;
  /// "flat": an allreduce goes over all ranks at once. "node": it is summed inside
  /// each node first, and each rank of a node takes its share across. "auto" measures
  /// both, by size, and remembers the faster. For Gloo with as many ranks on each of
  /// several nodes; everything else is flat.
  std::string levels = "auto";
  /// The longest that an operation may take.
  std::chrono::milliseconds timeout = kDefaultTimeout;
  /// How long the ranks may take to come together, and as long again for each 1,024 of them, since
  /// thousands of processes that load their libraries from one file system take minutes: 120 s for
  /// a few ranks, 360 s for 2,048. Rank 0 says every 20 s how many have come and who has not.
  std::chrono::milliseconds start_timeout{120'000};
  /// How long a rank may be silent (stopped, cut off) before it counts as lost. A
  /// rank that dies is noticed at once.
  std::chrono::milliseconds silence_limit{60'000};
};

/// The world of this process, as its launcher set it up: mpirun, srun, or anything
/// that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun does.
/// Collective over the launched processes; blocks until all have come.
///
/// Beside the transport the ranks keep a control connection to rank 0: a rank that
/// dies, stops, stays away or issues something else is named on every rank, in the
/// same words, by the CommError of whatever they wait for.
///
/// A process may make several worlds, beside each other or in turn: the n-th call of a rank meets
/// the n-th of the others, one after the other.
///
/// Throws UsageError for a backend that is unknown or not built in, for a launcher whose ranks it
/// cannot reach, and while another thread of the process makes a world; CommError naming ranks
/// that have not come.
std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options = {});

/// Those that are left of a world that lost ranks.
struct SurvivorOptions {
  /// How many worlds have been lost: 1 for the first call, 2 after another loss. The same on
  /// all survivors.
  int generation = 1;
  /// How many ranks are left, rank 0 among them, where the program knows; the new world
  /// starts as soon as they have come. 0: as many as come.
  int expected = 0;
  /// As many as come are those that did until nobody came for so long.
  std::chrono::milliseconds settle{10'000};
  /// How many ranks the lost world had; 0 where it was the launch's. Fewer than half of them never
  /// go on.
  int lost_size = 0;
};

/// The world without the ranks it lost, for processes whose old world ended with CommError: a
/// new transport and control connection, and new ranks in the order of the old ones. What the
/// program was doing is its own to repeat. Collective over the survivors; blocks. Gloo, and
/// shared memory where all survivors are on one node.
///
/// The survivors meet where the launch did (MASTER_ADDR or Slurm's variables), `generation`
/// ports further. Rank 0 must be one of them, and half of the lost world's ranks at least: where a
/// network broke in two, one part alone goes on. Everything else, and for a rank that comes late
/// that the others have gone on, is a CommError that says so: restart the job. Throws UsageError
/// for backends that cannot go on without a rank (MPI) or do not yet (NCCL).
///
/// The launcher must leave the survivors alone, as `srun --kill-on-bad-exit=0` does; mpirun ends
/// them all.
std::unique_ptr<Communicator> make_survivors_communicator(const CommunicatorOptions& options = {},
                                                          const SurvivorOptions& survivors = {});

/// The MPI world without a control connection: a lost rank is noticed when the time
/// limit has passed. MPI is initialised by the first call and finalised when the
/// program ends in good order.
std::unique_ptr<Communicator> make_mpi_communicator(
    std::chrono::milliseconds timeout = kDefaultTimeout);

/// This rank's device of that name, "cpu" or "cuda": of the GPUs that it sees, the one of
/// its place on its node, modulo their number. Throws UsageError where there is none.
at::Device rank_device(const std::string& name);

/// What the MPI library calls itself, such as "Open MPI v4.1.4"; empty where
/// isobar was built without MPI. Does not initialise MPI.
std::string mpi_library_version();

/// Such as "NCCL 2.28.9"; empty where isobar was built without NCCL.
std::string nccl_library_version();

/// True where isobar was built with the Gloo backend.
bool has_gloo() noexcept;

}  // namespace isobar
