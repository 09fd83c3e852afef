// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <map>
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

/// Reads the environment variables of Open MPI's mpirun, PMI/PMIx launchers (MPICH, MVAPICH2, Cray
/// PALS, Flux), torchrun (RANK, WORLD_SIZE, ...) and Slurm's srun, also of several components of a
/// heterogeneous job. What another step of Slurm's has left over is not believed. Throws UsageError
/// where a variable is there but not a number, where a rank is outside of its world or node, where
/// one of a pair is missing, and where two launchers contradict each other so that ranks would be
/// alone.
LaunchEnvironment read_launch_environment();

/// Why one rank alone is perhaps not what its user meant, for a warning: a job of several tasks
/// whose program was started without srun. Empty where nothing speaks for that, and for several
/// ranks.
std::string lone_rank_doubt(const LaunchEnvironment& launch);

/// The rank that read_launch_environment() gives, and 0 where it throws: every such process then
/// speaks for itself. For who has an error to say, that one included.
int launch_rank_or_zero();

/// What a program ends with, in one line, for the last catch in main(): the first line of what the
/// error says, since LibTorch's go on with a stack. Of several ranks it begins with which one this
/// is, unless the text names it, or every rank has the error (Error::known_to_all()).
std::string error_line(const std::exception& error);

/// True for a launcher from which MPI can start.
bool starts_mpi(const LaunchEnvironment& launch);

/// The same of a library, by the name that begins mpi_library_version(): Open MPI starts from PMIx,
/// and not from srun --mpi=pmi2, Cray PALS or another MPI's mpiexec.
bool starts_mpi(const LaunchEnvironment& launch, const std::string& library);

/// The environment's variable of that name; empty where it is not set.
std::string environment_variable(const std::string& name);

/// All variables of the environment.
std::map<std::string, std::string> environment_variables();

/// What tells jobs apart that were started by hand with one MASTER_PORT, for people to read: the
/// program, its arguments and its folder, or ISOBAR_JOB. Empty where the launcher tells.
std::string job_of(const LaunchEnvironment& launch);

}  // namespace isobar
