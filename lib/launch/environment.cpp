// SPDX-License-Identifier: Apache-2.0
// What launchers left in the environment, read once by whoever makes a world. Nothing is believed
// that something else contradicts where believing it would go unnoticed: a process that takes
// itself for the only one asks nobody.
#include <isobar/launch/environment.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "launch/variables.hpp"

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

bool is_set(const char* name) { return !variable(name).empty(); }

/// The first of `names` that is set and not empty.
std::optional<Variable> first_of(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (is_set(name)) return Variable{name, to_number(name, variable(name))};
  }
  return std::nullopt;
}

std::optional<int> number(std::initializer_list<const char*> names) {
  const auto variable = first_of(names);
  return variable ? std::optional(variable->value) : std::nullopt;
}

/// Slurm's PMIx names its ranks "slurm.pmix.JOB.STEP".
constexpr std::string_view kSlurmPmix = "slurm.pmix.";

/// "JOB.STEP" of a name that Slurm gave, after `prefix`; empty for other names.
std::string step_named_by(const char* name, std::string_view prefix) {
  const auto text = variable(name);
  if (!text.starts_with(prefix)) return {};
  const auto step = text.substr(prefix.size());
  const bool is_step = step.find_first_not_of("0123456789.") == std::string::npos &&
                       std::count(step.begin(), step.end(), '.') == 1;
  return is_step ? step : std::string();
}

std::string this_step() {
  return is_set("SLURM_STEP_ID") ? variable("SLURM_JOB_ID") + "." + variable("SLURM_STEP_ID")
                                 : std::string();
}

bool is_of_this_step(const char* name, std::string_view prefix) {
  const auto step = step_named_by(name, prefix);
  return !step.empty() && step == this_step();
}

/// True where a shell that srun had started with PMI has left its own place to what runs below it.
bool is_of_other_step(const char* name, std::string_view prefix = "") {
  const auto step = step_named_by(name, prefix);
  return !step.empty() && step != this_step();
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
std::optional<int> tasks_on_node(const char* name, std::string_view list, int node) {
  while (!list.empty()) {
    const auto entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), entry.size() + 1));
    const auto open = entry.find("(x");
    const int tasks = to_number(name, entry.substr(0, open));
    const int nodes = open == std::string_view::npos
                          ? 1
                          : to_number(name, entry.substr(open + 2, entry.size() - open - 3));
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return std::nullopt;
}

int slurm_local_size() {
  constexpr auto kName = "SLURM_STEP_TASKS_PER_NODE";
  const auto list = variable(kName);
  return tasks_on_node(kName, list, number({"SLURM_NODEID"}).value_or(0)).value_or(1);
}

std::optional<Claim> read_openmpi() {
  if (!is_set("OMPI_COMM_WORLD_RANK") || !is_set("OMPI_COMM_WORLD_SIZE")) return std::nullopt;
  // srun's own PMIx in the same process: it is nearer, and mpirun's are those of a shell above it.
  if (is_of_this_step("PMIX_NAMESPACE", kSlurmPmix)) return std::nullopt;
  auto claim =
      claim_of("openmpi", *first_of({"OMPI_COMM_WORLD_RANK"}), *first_of({"OMPI_COMM_WORLD_SIZE"}));
  set_place(claim, first_of({"OMPI_COMM_WORLD_LOCAL_RANK"}),
            first_of({"OMPI_COMM_WORLD_LOCAL_SIZE"}));
  return claim;
}

/// The rank that an MPI launcher gave. What a shell has left over, which srun started in another
/// step with PMI, is none.
std::optional<Variable> pmi_rank() {
  // Hydra's mpiexec, which names its ranks' places so, leaves the shell's PMI_JOBID as it is.
  const bool is_older = !is_set("MPI_LOCALRANKID") &&
                        (is_of_other_step("PMI_JOBID") || is_of_other_step("PALS_APID"));
  if (const auto rank = is_older ? std::nullopt : first_of({"PMI_RANK"})) return rank;
  if (!is_of_other_step("PMIX_NAMESPACE", kSlurmPmix)) {
    if (const auto rank = first_of({"PMIX_RANK"})) return rank;
  }
  if (const auto rank = first_of({"MV2_COMM_WORLD_RANK"})) return rank;
  if (const auto rank = is_older ? std::nullopt : first_of({"PALS_RANKID"})) return rank;
  return first_of({"FLUX_TASK_RANK"});
}

/// Slurm's number of tasks is that of Slurm's ranks: mpirun and prterun may start others in a job.
std::optional<Variable> pmi_size(const Variable& rank) {
  if (const auto size = first_of({"PMI_SIZE", "MV2_COMM_WORLD_SIZE", "FLUX_JOB_SIZE"})) return size;
  const auto pmix = variable("PMIX_NAMESPACE");
  if (rank.name == std::string_view("PMIX_RANK") && !pmix.empty() &&
      !pmix.starts_with(kSlurmPmix)) {
    return std::nullopt;
  }
  return first_of({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
}

std::optional<Claim> read_pmi() {
  const auto rank = pmi_rank();
  if (!rank) return std::nullopt;
  const auto size = pmi_size(*rank);
  ISOBAR_CHECK(size, shown(*rank),
               ", but none of PMI_SIZE, SLURM_STEP_NUM_TASKS and SLURM_NTASKS says how many ranks "
               "there are; export PMI_SIZE");
  auto claim = claim_of("pmi", *rank, *size);
  auto local_rank = first_of({"MPI_LOCALRANKID", "PMI_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK",
                              "PALS_LOCAL_RANKID", "FLUX_TASK_LOCAL_ID"});
  const auto local_size = first_of(
      {"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "PALS_LOCAL_SIZE"});
  // A launcher's daemons may be a step too, whose places are theirs and not its ranks'.
  const bool is_slurms = number({"SLURM_PROCID"}) == rank->value &&
                         number({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) == size->value;
  if (!local_rank && is_slurms) local_rank = first_of({"SLURM_LOCALID"});
  set_place(claim, local_rank, local_size, is_slurms ? slurm_local_size() : 1);
  return claim;
}

/// torchrun's variables, and those of anybody who starts ranks by hand.
std::optional<Claim> read_torchrun() {
  if (!is_set("RANK") || !is_set("WORLD_SIZE")) return std::nullopt;
  auto claim = claim_of("torchrun", *first_of({"RANK"}), *first_of({"WORLD_SIZE"}));
  set_place(claim, first_of({"LOCAL_RANK"}), first_of({"LOCAL_WORLD_SIZE"}));
  return claim;
}

/// A script that was submitted from within a step has that step's variables, beside its own list of
/// the tasks on this node, which is one.
bool is_in_step() {
  const auto tasks = variable("SLURM_GTIDS");
  if (tasks.empty() || !is_set("SLURM_STEP_TASKS_PER_NODE")) return true;
  return std::count(tasks.begin(), tasks.end(), ',') + 1 == slurm_local_size();
}

/// A batch script has SLURM_PROCID=0 and SLURM_NTASKS=N too, though it is one
/// process: only a step, which srun starts, counts.
std::optional<Claim> read_slurm() {
  const auto rank = first_of({"SLURM_PROCID"});
  auto size = first_of({"SLURM_STEP_NUM_TASKS"});
  if (!size && (is_set("SLURM_STEP_ID") || is_set("SLURM_STEPID"))) {
    size = first_of({"SLURM_NTASKS"});
  }
  if (!rank || !size || !is_in_step()) return std::nullopt;
  auto claim = claim_of("slurm", *rank, *size);
  set_place(claim, first_of({"SLURM_LOCALID"}), std::nullopt, slurm_local_size());
  return claim;
}

/// Variables that are left over, from another job, the batch script or a shell, must not make each
/// task of a step a world of its own. A larger world than the step is one whose tasks start several
/// ranks each.
void check_against_step(const Claim& claim) {
  const auto step = read_slurm();
  if (!step || claim.launch.size >= step->launch.size) return;
  throw UsageError(detail::join("environment: ", shown(claim), " say one thing and Slurm's ",
                                shown(*step), " another; unset ", claim.rank.name, " and ",
                                claim.size.name,
                                ", or, where the tasks of a step are to be worlds of their own, "
                                "SLURM_PROCID"));
}

/// Of an MPI launcher: more ranks than one find each other twice, and one rank alone nobody. Flux
/// may itself run in a step, with as many tasks as it has nodes.
void check_lone_rank(const Claim& claim) {
  if (claim.launch.size == 1 && claim.launch.launcher == "pmi" && !is_set("FLUX_JOB_ID")) {
    check_against_step(claim);
  }
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
    ISOBAR_CHECK(!is_set(there) || is_set(missing), "environment: ", there, "=", variable(there),
                 " is set, and ", missing, " is not; set both, or unset ", there);
  }
}

/// Whoever says `mpirun -n 1` in a job of eight tasks means it; not so where each task of a step is
/// alone by what was left over.
bool is_meant_alone(const LaunchEnvironment& launch) {
  if (launch.launcher == "openmpi") return number({"SLURM_STEP_NUM_TASKS"}).value_or(1) == 1;
  return launch.launcher == "pmi" && (!is_set("SLURM_STEP_ID") || is_set("FLUX_JOB_ID"));
}

/// Whether the text says "rank 3", and not only "rank 31".
bool names_rank(const std::string& text, int rank) {
  const auto words = detail::join("rank ", rank);
  for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) {
    const auto next = at + words.size();
    if (next == text.size() || std::isdigit(static_cast<unsigned char>(text[next])) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

// The launcher nearest to the process counts: mpirun inside a Slurm step sees both, torchrun inside
// of either sees them too.
LaunchEnvironment read_launch_environment() {
  if (is_set("TORCHELASTIC_RUN_ID")) {
    if (const auto torchrun = read_torchrun()) return torchrun->launch;
  }
  for (auto* read : {read_openmpi, read_pmi}) {
    if (const auto claim = read()) {
      check_against_hand(*claim);
      check_lone_rank(*claim);
      return claim->launch;
    }
  }
  if (const auto by_hand = read_torchrun()) return check_against_step(*by_hand), by_hand->launch;
  if (const auto slurm = read_slurm()) return slurm->launch;
  check_pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  check_pair("RANK", "WORLD_SIZE");
  return {};
}

std::string lone_rank_doubt(const LaunchEnvironment& launch) {
  if (launch.size > 1) return {};
  const auto job = variable("SLURM_JOB_ID");
  const auto tasks = first_of({"SLURM_NTASKS", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"});
  if (!job.empty() && tasks && tasks->value > 1 && !is_meant_alone(launch)) {
    return detail::join("one rank alone in Slurm's job ", job, ", where ", shown(*tasks),
                        "; start the program by srun, or ask for one task");
  }
  const auto machines = first_of({"_CONDOR_NPROCS"});
  if (launch.launcher != "none" || !machines || machines->value < 2) return {};
  return detail::join("one rank alone in a job of HTCondor's, where ", shown(*machines),
                      "; start the program by mpirun, or ask for one machine");
}

int launch_rank_or_zero() {
  try {
    return read_launch_environment().rank;
  } catch (const Error&) {
    return 0;
  }
}

std::string error_line(const std::exception& error) {
  const std::string text = error.what();
  const auto line = text.substr(0, text.find('\n'));
  const auto* own = dynamic_cast<const Error*>(&error);
  if (own != nullptr && own->known_to_all()) return line;
  try {
    const auto launch = read_launch_environment();
    if (launch.size == 1 || names_rank(line, launch.rank)) return line;
    return detail::join("rank ", launch.rank, " of ", launch.size, ": ", line);
  } catch (const Error&) {
    return line;  // it is probably this
  }
}

bool starts_mpi(const LaunchEnvironment& launch) {
  return launch.launcher == "openmpi" || launch.launcher == "pmi";
}

std::string environment_variable(const std::string& name) { return variable(name.c_str()); }

bool starts_mpi(const LaunchEnvironment& launch, const std::string& library) {
  const bool wants_pmix = library.starts_with("Open MPI");
  return starts_mpi(launch) && (!wants_pmix || is_set("PMIX_RANK"));
}

}  // namespace isobar
