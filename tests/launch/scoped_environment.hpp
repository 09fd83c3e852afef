// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

namespace isobar::test {

using Variables = std::map<std::string, std::string>;

/// What launchers set and isobar reads.
inline constexpr const char* kLaunchVariables[] = {"OMPI_COMM_WORLD_RANK",
                                                   "OMPI_COMM_WORLD_SIZE",
                                                   "OMPI_COMM_WORLD_LOCAL_RANK",
                                                   "OMPI_COMM_WORLD_LOCAL_SIZE",
                                                   "PMI_RANK",
                                                   "PMI_SIZE",
                                                   "PMI_LOCAL_RANK",
                                                   "PMI_LOCAL_SIZE",
                                                   "PMI_JOBID",
                                                   "PMIX_RANK",
                                                   "PMIX_NAMESPACE",
                                                   "MPI_LOCALRANKID",
                                                   "MPI_LOCALNRANKS",
                                                   "MV2_COMM_WORLD_RANK",
                                                   "MV2_COMM_WORLD_SIZE",
                                                   "MV2_COMM_WORLD_LOCAL_RANK",
                                                   "MV2_COMM_WORLD_LOCAL_SIZE",
                                                   "PALS_RANKID",
                                                   "PALS_LOCAL_RANKID",
                                                   "PALS_LOCAL_SIZE",
                                                   "PALS_APID",
                                                   "FLUX_TASK_RANK",
                                                   "FLUX_TASK_LOCAL_ID",
                                                   "FLUX_JOB_SIZE",
                                                   "FLUX_JOB_ID",
                                                   "SLURM_PROCID",
                                                   "SLURM_NTASKS",
                                                   "SLURM_LOCALID",
                                                   "SLURM_NODEID",
                                                   "SLURM_NNODES",
                                                   "SLURM_STEP_ID",
                                                   "SLURM_STEPID",
                                                   "SLURM_STEP_NUM_TASKS",
                                                   "SLURM_STEP_TASKS_PER_NODE",
                                                   "SLURM_STEP_NODELIST",
                                                   "SLURM_JOB_ID",
                                                   "SLURM_JOB_NUM_NODES",
                                                   "SLURM_JOB_NODELIST",
                                                   "SLURM_JOB_NODELIST_HET_GROUP_0",
                                                   "SLURM_RESTART_COUNT",
                                                   "SLURM_GTIDS",
                                                   "SLURM_DISTRIBUTION",
                                                   "SLURM_HOSTFILE",
                                                   "SLURM_NODE_ALIASES",
                                                   "SLURM_LAUNCH_NODE_IPADDR",
                                                   "ENVIRONMENT",
                                                   "_CONDOR_NPROCS",
                                                   "RANK",
                                                   "WORLD_SIZE",
                                                   "LOCAL_RANK",
                                                   "LOCAL_WORLD_SIZE",
                                                   "MASTER_ADDR",
                                                   "MASTER_PORT",
                                                   "TORCHELASTIC_RUN_ID",
                                                   "TORCHELASTIC_USE_AGENT_STORE",
                                                   "ISOBAR_JOB",
                                                   "ISOBAR_SECRET",
                                                   "ISOBAR_SECRET_FILE"};

/// The launchers' variables are these and no others while it lives. Ranks know a secret of the
/// tests, so that none is made in the home of who runs them, unless these say where one is.
class ScopedEnvironment {
 public:
  explicit ScopedEnvironment(const Variables& variables) {
    for (const char* name : kLaunchVariables) forget(name);
    for (const auto& [name, value] : variables) {
      forget(name);
      setenv(name.c_str(), value.c_str(), 1);
    }
    const bool has_place = variables.contains("ISOBAR_SECRET") ||
                           variables.contains("ISOBAR_SECRET_FILE") ||
                           variables.contains("XDG_STATE_HOME");
    if (!has_place) setenv("ISOBAR_SECRET", "known to the tests alone", 1);
  }
  ~ScopedEnvironment() {
    for (const auto& [name, value] : before_) {
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    }
  }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

 private:
  void forget(const std::string& name) {
    const char* value = std::getenv(name.c_str());
    before_.emplace(name, value ? std::optional<std::string>(value) : std::nullopt);
    unsetenv(name.c_str());
  }

  std::map<std::string, std::optional<std::string>> before_;
};

}  // namespace isobar::test
