// SPDX-License-Identifier: Apache-2.0
// What launchers left in the environment, read once by whoever makes a world. Nothing is believed
// that something else contradicts where believing it would go unnoticed: a process that takes
// itself for the only one asks nobody.
#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace isobar {
namespace {

struct Variable {
  const char* name = nullptr;
  int value = 0;
};

std::string shown(const Variable& variable) {
  return detail::join(variable.name, "=", variable.value);
}

/// What one launcher says.
struct Claim {
  LaunchEnvironment launch;
  Variable rank;
  Variable size;
};

std::string shown(const Claim& claim) {
  return detail::join(shown(claim.rank), " and ", shown(claim.size));
}

int to_number(const char* name, std::string_view text) {
  int value = 0;
  const auto end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  ISOBAR_CHECK(error == std::errc() && rest == end && value >= 0, "environment variable ", name,
               " is '", text, "', wanted a number of at least 0");
  return value;
}

bool is_set(const char* name) {
  const char* text = std::getenv(name);
  return text && *text;
}

/// The first of `names` that is set and not empty.
std::optional<Variable> first_of(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (is_set(name)) return Variable{name, to_number(name, std::getenv(name))};
  }
  return std::nullopt;
}

std::optional<int> number(std::initializer_list<const char*> names) {
  const auto variable = first_of(names);
  return variable ? std::optional(variable->value) : std::nullopt;
}

Claim claim_of(const char* launcher, const Variable& rank, const Variable& size) {
  ISOBAR_CHECK(size.value > 0 && rank.value < size.value, "environment of ", launcher, ": rank ",
               rank.value, " is not one of ", size.value, " (", shown(rank), ", ", shown(size),
               "); ranks are counted from 0");
  return {{.launcher = launcher, .rank = rank.value, .size = size.value}, rank, size};
}

/// The place on the node, where the launcher's own variables say so; otherwise `size` ranks are on
/// it, and as many as this rank's place needs.
void set_place(Claim& claim, const std::optional<Variable>& rank,
               const std::optional<Variable>& size, int otherwise = 1) {
  auto& launch = claim.launch;
  launch.local_rank = rank ? rank->value : 0;
  launch.local_size = size ? size->value : std::max(otherwise, launch.local_rank + 1);
  ISOBAR_CHECK(launch.local_rank < launch.size, "environment of ", launch.launcher, ": rank ",
               launch.local_rank, " of a node is not one of ", launch.size, " ranks in all (",
               rank ? shown(*rank) + ", " : "", shown(claim.size), ")");
  ISOBAR_CHECK(!size || launch.local_rank < launch.local_size, "environment of ", launch.launcher,
               ": rank ", launch.local_rank, " of a node is not one of ", launch.local_size, " (",
               rank ? shown(*rank) + ", " : "", shown(*size), "); they are counted from 0");
  ISOBAR_CHECK(!size || launch.local_size <= launch.size, "environment of ", launch.launcher,
               ": more ranks on a node than there are (", shown(*size), ", ", shown(claim.size),
               ")");
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

std::optional<Claim> read_openmpi() {
  if (!is_set("OMPI_COMM_WORLD_RANK") || !is_set("OMPI_COMM_WORLD_SIZE")) return std::nullopt;
  auto claim =
      claim_of("openmpi", *first_of({"OMPI_COMM_WORLD_RANK"}), *first_of({"OMPI_COMM_WORLD_SIZE"}));
  set_place(claim, first_of({"OMPI_COMM_WORLD_LOCAL_RANK"}),
            first_of({"OMPI_COMM_WORLD_LOCAL_SIZE"}));
  return claim;
}

std::optional<Claim> read_pmi() {
  const auto rank = first_of({"PMI_RANK", "PMIX_RANK"});
  if (!rank) return std::nullopt;
  const auto size = first_of({"PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
  ISOBAR_CHECK(size, shown(*rank),
               ", but none of PMI_SIZE, SLURM_STEP_NUM_TASKS and SLURM_NTASKS says how many ranks "
               "there are; export PMI_SIZE");
  auto claim = claim_of("pmi", *rank, *size);
  set_place(claim, first_of({"MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID"}),
            first_of({"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"}), slurm_local_size());
  return claim;
}

/// torchrun's variables, and those of anybody who starts ranks by hand.
std::optional<Claim> read_torchrun() {
  if (!is_set("RANK") || !is_set("WORLD_SIZE")) return std::nullopt;
  auto claim = claim_of("torchrun", *first_of({"RANK"}), *first_of({"WORLD_SIZE"}));
  set_place(claim, first_of({"LOCAL_RANK"}), first_of({"LOCAL_WORLD_SIZE"}));
  return claim;
}

/// A batch script has SLURM_PROCID=0 and SLURM_NTASKS=N too, though it is one
/// process: only a step, which srun starts, counts.
std::optional<Claim> read_slurm() {
  const auto rank = first_of({"SLURM_PROCID"});
  auto size = first_of({"SLURM_STEP_NUM_TASKS"});
  if (!size && number({"SLURM_STEP_ID", "SLURM_STEPID"})) size = first_of({"SLURM_NTASKS"});
  if (!rank || !size) return std::nullopt;
  auto claim = claim_of("slurm", *rank, *size);
  set_place(claim, first_of({"SLURM_LOCALID"}), std::nullopt, slurm_local_size());
  return claim;
}

/// Variables of hand-made ranks that are left over, from another job or the batch script, must not
/// make each task of a step a world of its own. A larger world than the step is one whose tasks
/// start several ranks each.
void check_against_step(const Claim& by_hand) {
  const auto step = read_slurm();
  if (!step || by_hand.launch.size >= step->launch.size) return;
  throw UsageError(detail::join("environment: ", shown(by_hand), " say one thing and Slurm's ",
                                shown(*step),
                                " another; unset RANK and WORLD_SIZE, or, where the tasks of a "
                                "step are to be worlds of their "
                                "own, SLURM_PROCID"));
}

/// The other way round: what is left over of a launcher of one rank must not part ranks that were
/// made by hand.
void check_against_hand(const Claim& chosen) {
  const auto by_hand = chosen.launch.size == 1 ? read_torchrun() : std::nullopt;
  if (!by_hand || by_hand->launch.size == 1) return;
  throw UsageError(detail::join("environment: ", shown(chosen), " say one thing and ",
                                shown(*by_hand), " another; unset the two that are left over"));
}

/// No launcher sets one of them alone, and without the other each rank would be alone.
void check_pair(const char* rank, const char* size) {
  for (const auto& [there, missing] : {std::pair(rank, size), std::pair(size, rank)}) {
    ISOBAR_CHECK(!is_set(there) || is_set(missing), "environment: ", there, "=", std::getenv(there),
                 " is set, and ", missing, " is not; set both, or unset ", there);
  }
}

}  // namespace

// The launcher nearest to the process counts: mpirun inside a Slurm step sees both, torchrun inside
// of either sees them too.
LaunchEnvironment read_launch_environment() {
  if (is_set("TORCHELASTIC_RUN_ID")) {
    if (const auto torchrun = read_torchrun()) return torchrun->launch;
  }
  for (auto* read : {read_openmpi, read_pmi}) {
    if (const auto claim = read()) return check_against_hand(*claim), claim->launch;
  }
  if (const auto by_hand = read_torchrun()) return check_against_step(*by_hand), by_hand->launch;
  if (const auto slurm = read_slurm()) return slurm->launch;
  check_pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  check_pair("RANK", "WORLD_SIZE");
  return {};
}

}  // namespace isobar
