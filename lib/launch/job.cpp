// SPDX-License-Identifier: Apache-2.0
#include "launch/job.hpp"

#include <isobar/core/error.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include "launch/variables.hpp"

namespace isobar {
namespace {

bool is_by_hand(const LaunchEnvironment& launch) {
  return launch.launcher == "torchrun" && variable("TORCHELASTIC_RUN_ID").empty() &&
         !is_slurm_step(launch);
}

/// Such as "/opt/bin/train a.yaml seed=1 in /scratch/a".
std::string command_line() {
  std::error_code none;
  auto text = std::filesystem::read_symlink("/proc/self/exe", none).string();
  std::ifstream arguments("/proc/self/cmdline", std::ios::binary);
  std::string argument;
  std::getline(arguments, argument, '\0');  // the program by whatever name
  while (std::getline(arguments, argument, '\0')) text += " " + argument;
  return text + " in " + std::filesystem::current_path(none).string();
}

}  // namespace

bool is_slurm_step(const LaunchEnvironment& launch) {
  return variable("SLURM_STEP_NUM_TASKS") == std::to_string(launch.size);
}

std::string launch_name() {
  const auto launch = read_launch_environment();
  if (launch.launcher == "torchrun" && !is_slurm_step(launch)) {
    return variable("TORCHELASTIC_RUN_ID");
  }
  // Of mpirun's ranks, some may be in a step of Slurm's that started its daemons.
  if (launch.launcher == "openmpi") return variable("PMIX_NAMESPACE");
  return detail::join(variable("SLURM_JOB_ID"), ".", variable("SLURM_STEP_ID"), " ",
                      variable("PMIX_NAMESPACE"));
}

std::string job_of(const LaunchEnvironment& launch) {
  const auto name = variable("ISOBAR_JOB");
  if (!name.empty()) return "ISOBAR_JOB=" + name;
  return is_by_hand(launch) ? command_line() : std::string();
}

}  // namespace isobar
