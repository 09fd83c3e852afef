// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string_view>

namespace isobar {
namespace {

int to_number(const char* name, std::string_view text) {
  int value = 0;
  const auto end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  ISOBAR_CHECK(error == std::errc() && rest == end && value >= 0, "environment variable ", name,
               " is '", text, "', wanted a number of at least 0");
  return value;
}

/// The first of `names` that is set and not empty.
std::optional<int> number(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    if (text && *text) return to_number(name, text);
  }
  return std::nullopt;
}

LaunchEnvironment checked(LaunchEnvironment launch) {
  ISOBAR_CHECK(launch.size > 0 && launch.rank < launch.size, "environment of ", launch.launcher,
               ": rank ", launch.rank, " is not one of ", launch.size);
  launch.local_size = std::max(launch.local_size, launch.local_rank + 1);
  return launch;
}

/// Slurm writes the tasks of each node as "4(x2),3", which is 4, 4 and 3.
std::optional<int> tasks_on_node(std::string_view list, int node) {
  constexpr auto kName = "SLURM_STEP_TASKS_PER_NODE";
  while (!list.empty()) {
    const auto entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), entry.size() + 1));
    const auto open = entry.find("(x");
    const int tasks = to_number(kName, entry.substr(0, open));
    const int nodes = open == std::string_view::npos
                          ? 1
                          : to_number(kName, entry.substr(open + 2, entry.size() - open - 3));
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return std::nullopt;
}

int slurm_local_size() {
  const char* list = std::getenv("SLURM_STEP_TASKS_PER_NODE");
  return list ? tasks_on_node(list, number({"SLURM_NODEID"}).value_or(0)).value_or(1) : 1;
}

std::optional<LaunchEnvironment> read_openmpi() {
  const auto rank = number({"OMPI_COMM_WORLD_RANK"});
  const auto size = number({"OMPI_COMM_WORLD_SIZE"});
  if (!rank || !size) return std::nullopt;
  return LaunchEnvironment{.launcher = "openmpi",
                           .rank = *rank,
                           .size = *size,
                           .local_rank = number({"OMPI_COMM_WORLD_LOCAL_RANK"}).value_or(0),
                           .local_size = number({"OMPI_COMM_WORLD_LOCAL_SIZE"}).value_or(1)};
}

std::optional<LaunchEnvironment> read_pmi() {
  const auto rank = number({"PMI_RANK", "PMIX_RANK"});
  if (!rank) return std::nullopt;
  const auto size = number({"PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
  ISOBAR_CHECK(size,
               "PMIX_RANK is set, but none of PMI_SIZE, SLURM_STEP_NUM_TASKS and SLURM_NTASKS"
               " that say how many ranks there are; export PMI_SIZE");
  return LaunchEnvironment{
      .launcher = "pmi",
      .rank = *rank,
      .size = *size,
      .local_rank = number({"MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID"}).value_or(0),
      .local_size = number({"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"}).value_or(slurm_local_size())};
}

/// torchrun's variables, and those of anybody who starts ranks by hand.
std::optional<LaunchEnvironment> read_torchrun() {
  const auto rank = number({"RANK"});
  const auto size = number({"WORLD_SIZE"});
  if (!rank || !size) return std::nullopt;
  return LaunchEnvironment{.launcher = "torchrun",
                           .rank = *rank,
                           .size = *size,
                           .local_rank = number({"LOCAL_RANK"}).value_or(0),
                           .local_size = number({"LOCAL_WORLD_SIZE"}).value_or(1)};
}

/// A batch script has SLURM_PROCID=0 and SLURM_NTASKS=N too, though it is one
/// process: only a step, which srun starts, counts.
std::optional<LaunchEnvironment> read_slurm() {
  const auto rank = number({"SLURM_PROCID"});
  auto size = number({"SLURM_STEP_NUM_TASKS"});
  if (!size && number({"SLURM_STEP_ID", "SLURM_STEPID"})) size = number({"SLURM_NTASKS"});
  if (!rank || !size) return std::nullopt;
  LaunchEnvironment launch{.launcher = "slurm", .rank = *rank, .size = *size};
  launch.local_rank = number({"SLURM_LOCALID"}).value_or(0);
  launch.local_size = slurm_local_size();
  return launch;
}

}  // namespace

LaunchEnvironment read_launch_environment() {
  // The launcher nearest to the process first: mpirun inside a Slurm step sees both.
  for (auto* read : {read_openmpi, read_pmi, read_torchrun, read_slurm}) {
    if (const auto launch = read()) return checked(*launch);
  }
  return {};
}

}  // namespace isobar
