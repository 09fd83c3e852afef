// SPDX-License-Identifier: Apache-2.0
// `isobar doctor`, on every rank of a launch or without one: looks for what isobar needs, and says
// what a user can do about what is absent. It makes no world, since what keeps ranks from meeting
// is a thing that it is asked about; rank 0 of the launcher's numbering speaks. With --cluster and
// --binding it does, in doctor_cluster.cpp.
#include "cli/doctor.hpp"

#include "cli/command.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/text.hpp>
#include <isobar/core/version.hpp>
#include <isobar/graph/grid.hpp>
#include <isobar/hdf5/info.hpp>
#include <isobar/launch/environment.hpp>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace isobar {
namespace {

/// One thing that was looked for. A finding that is not well keeps isobar from training here; a
/// note says what a user can do about what is merely absent.
struct Finding {
  std::string what;
  std::string found;
  bool well = true;
  std::string note = {};
};

Finding find_mpi() {
  const auto library = mpi_library_version();
  const auto launch = read_launch_environment();
  if (library.empty()) {
    return {"MPI", "built without", launch.size == 1,
            "one rank only; configure with ISOBAR_MPI=ON for several"};
  }
  return {"MPI", library.substr(0, library.find(','))};  // what follows is its packager's
}

Finding find_launcher() {
  const auto launch = read_launch_environment();
  const auto found = launch.launcher == "none" ? std::string("none (one rank)")
                                               : fmt::format("{}, rank {} of {}", launch.launcher,
                                                             launch.rank, launch.size);
  return {"launcher", found, true, lone_rank_doubt(launch)};
}

Finding find_gpus() {
  const auto& hooks = at::detail::getCUDAHooks();
  if (!hooks.hasCUDA()) {
    return {"GPUs", "none usable", true,
            "device: cuda needs a LibTorch with CUDA, a driver and a GPU"};
  }
  return {"GPUs", fmt::format("{} (CUDA)", hooks.deviceCount())};
}

Finding find_hdf5() {
  const auto info = hdf5_info();
  std::vector<std::string> present, missing;
  for (const auto& [name, available] : info.filters)
    (available ? present : missing).push_back(name);
  Finding finding{"HDF5", fmt::format("{}, filters {}", info.version, join_words(present))};
  finding.well = info.filters.at("deflate") && info.filters.at("shuffle");
  if (!missing.empty()) finding.note = "files that use " + join_words(missing) + " cannot be read";
  return finding;
}

Finding find_grids() {
  try {
    return {"named grids",
            fmt::format("yes (O32 has {} points)", make_gaussian_grid("O32").size())};
  } catch (const Error&) {
    return {"named grids", "no", true, "built without ECMWF Atlas; grids come from files"};
  }
}

Finding find_memory() { return {"memory", format_bytes(machine_memory_bytes())}; }

/// A launcher that binds its ranks gives each its own cores; otherwise they share all of them.
Finding find_cores() {
  const auto cores = usable_cores();
  const int threads = at::get_num_threads();
  const int ranks = read_launch_environment().local_size;
  const bool bound = ranks > 1 && cores.own < cores.launcher;
  Finding finding{
      "cores", fmt::format("{} usable{}, {} thread{} a rank", cores.own,
                           bound ? " by this rank alone" : "", threads, threads == 1 ? "" : "s")};
  const int sharing = bound ? 1 : ranks;
  if (threads * sharing <= cores.own) return finding;
  if (bound) {
    finding.note = fmt::format("more threads than cores: set OMP_NUM_THREADS={}, or --bind-to none",
                               cores.own);
  } else if (ranks > cores.own) {
    finding.note = fmt::format("{} ranks share {} cores: start fewer{}", ranks, cores.own,
                               threads > 1 ? ", and set OMP_NUM_THREADS=1" : "");
  } else {
    finding.note = fmt::format("{} rank{} of {} threads share {} cores: set OMP_NUM_THREADS={}",
                               ranks, ranks == 1 ? "" : "s", threads, cores.own, cores.own / ranks);
  }
  return finding;
}

/// What is wrong with a folder's name; nothing where it is one. A variable that is not set leaves
/// an empty word, or takes the next option for the folder.
std::string check_folder(const std::string& folder) {
  if (folder.empty()) return "the folder's name is empty; is a variable not set?";
  if (folder[0] != '-') return {};
  return "wants a folder, got '" + folder + "'; is a variable not set?";
}

void check_together(const DoctorArguments& arguments) {
  if (arguments.whole_cluster) return;
  const bool has_use = arguments.device.empty() || arguments.binding;
  const char* lone = !arguments.folders.empty()   ? "--folder"
                     : !arguments.backend.empty() ? "--backend"
                     : !has_use                   ? "--device"
                                                  : nullptr;
  if (lone != nullptr) throw CLI::ValidationError(lone, "is for all nodes; add --cluster");
}

void add_cluster_options(CLI::App& app, DoctorArguments& arguments) {
  const auto take_cluster = [&arguments](const std::string& name) {
    arguments.whole_cluster = true;
    arguments.cluster = name;
  };
  app.add_option_function<std::string>("--cluster", take_cluster,
                                       "look at all nodes and links of the allocation; NAME is the "
                                       "machine's profile, if it is not to be detected")
      ->expected(0, 1)
      ->default_str("")
      ->type_name("[NAME]");
  app.add_flag("--binding", arguments.binding,
               "say on which cores, GPU and NIC each rank runs, and whether that is right");
  app.add_option("--folder", arguments.folders,
                 "with --cluster: where each node writes a file; may be repeated")
      ->allow_extra_args(false)
      ->check(check_folder)
      ->default_str(".");
  app.add_option("--device", arguments.device,
                 "with --cluster: whose tensors the nodes exchange; auto: the GPUs', if all have "
                 "one. With --binding, too: whether each rank has to have a GPU; auto: if the "
                 "machine's profile has GPUs")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->default_str("auto");
  app.add_option("--backend", arguments.backend,
                 "with --cluster: auto, nccl, mpi or gloo; auto chooses")
      ->default_str("auto");
  app.parse_complete_callback([&arguments] { check_together(arguments); });
}

void add_doctor_options(CLI::App& app, DoctorArguments& arguments) {
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
  add_cluster_options(app, arguments);
}

/// Prints what was found on this machine, with a verdict. Returns 0 if isobar can train here.
int run_doctor(const DoctorArguments& arguments) {
  if (arguments.whole_cluster || arguments.binding) return run_cluster_doctor(arguments);
  const std::vector<Finding> findings{
      {"isobar", fmt::format("{} (commit {})", version(), commit())},
      {"LibTorch", torch_version()},
      find_mpi(),
      find_launcher(),
      find_gpus(),
      find_hdf5(),
      find_grids(),
      find_cores(),
      find_memory()};
  auto rows = nlohmann::json::array();
  bool well = true;
  std::string text;
  for (const auto& f : findings) {
    rows.push_back({{"what", f.what}, {"found", f.found}, {"well", f.well}, {"note", f.note}});
    text += fmt::format("{:<12} {}{}\n", f.what, f.well ? "" : "PROBLEM: ", f.found);
    if (!f.note.empty()) text += fmt::format("{:<12} ({})\n", "", f.note);
    well = well && f.well;
  }
  text += well ? "verdict      isobar can train here\n"
               : "verdict      isobar cannot train here; see PROBLEM above\n";
  if (read_launch_environment().rank != 0) return well ? 0 : 1;  // one rank speaks
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.doctor.1", arguments.command, rows);
  return well ? 0 : 1;
}

const RegisteredCommand kDoctor{{.place = 90,
                                 .group = "",
                                 .name = "doctor",
                                 .description = "Say whether isobar can train on this machine",
                                 .example = "mpirun -n 2 isobar doctor",
                                 .add = with_arguments(add_doctor_options, run_doctor)}};

}  // namespace

std::string version_text() {
  const auto mpi = mpi_library_version();
  const auto nccl = nccl_library_version();
  return fmt::format("isobar {} (commit {})\nLibTorch {}\nMPI {}\nNCCL {}\nHDF5 {}\ncompiler {}\n",
                     version(), commit(), torch_version(), mpi.empty() ? "none" : mpi,
                     nccl.empty() ? "none" : nccl, hdf5_info().version, compiler());
}

}  // namespace isobar
