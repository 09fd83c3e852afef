// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace isobar {

/// What a launcher told this process about its place, before any communication.
struct LaunchEnvironment {
  /// "openmpi", "pmi", "torchrun", "slurm" or "none".
  std::string launcher = "none";
  int rank = 0;
  int size = 1;
  /// Place among the ranks of this node, and their number.
  int local_rank = 0;
  int local_size = 1;
};

/// Reads the environment variables of Open MPI's mpirun, PMI/PMIx launchers
/// (MPICH, Cray), torchrun (RANK, WORLD_SIZE, ...) and Slurm's srun. Throws UsageError where a
/// variable is there but not a number, where a rank is outside of its world or node, where one of a
/// pair is missing, and where two launchers contradict each other so that ranks would be alone.
LaunchEnvironment read_launch_environment();

}  // namespace isobar
