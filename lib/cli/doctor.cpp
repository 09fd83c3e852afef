// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.hpp"
#include "cli/report.hpp"

#include <isobar/comm/environment.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/core/version.hpp>
#include <isobar/data/hdf5_info.hpp>
#include <isobar/graph/grid.hpp>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <unistd.h>

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

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

Finding find_mpi() {
  const auto library = mpi_library_version();
  const auto launch = read_launch_environment();
  if (library.empty()) {
    return {"MPI", "built without", launch.size == 1,
            "one rank only; configure with ISOBAR_MPI=ON for several"};
  }
  return {"MPI", library};
}

Finding find_launcher() {
  const auto launch = read_launch_environment();
  return {"launcher", launch.launcher == "none" ? "none (one rank)"
                                                : fmt::format("{}, rank {} of {}", launch.launcher,
                                                              launch.rank, launch.size)};
}

Finding find_gpus() {
  const auto& hooks = at::detail::getCUDAHooks();
  if (!hooks.hasCUDA()) {
    return {"GPUs", "none usable", true,
            "a LibTorch with CUDA, a driver and a GPU are needed for device: cuda"};
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

Finding find_memory() {
  const double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  return {"memory", format_bytes(static_cast<int64_t>(bytes))};
}

Finding find_cores() {
  const int cores = usable_cores();
  const int threads = at::get_num_threads();
  Finding finding{"cores", fmt::format("{} usable, {} threads a rank", cores, threads)};
  const int ranks = read_launch_environment().local_size;
  if (threads * ranks > cores) {
    finding.note = fmt::format("{} ranks x {} threads share {} cores; set OMP_NUM_THREADS={}",
                               ranks, threads, cores, std::max(1, cores / ranks));
  }
  return finding;
}

}  // namespace

std::string version_text() {
  const auto mpi = mpi_library_version();
  const auto nccl = nccl_library_version();
  return fmt::format("isobar {} (commit {})\nLibTorch {}\nMPI {}\nNCCL {}\nHDF5 {}\ncompiler {}\n",
                     version(), commit(), torch_version(), mpi.empty() ? "none" : mpi,
                     nccl.empty() ? "none" : nccl, hdf5_info().version, compiler());
}

int run_doctor(const std::string& json, const std::vector<std::string>& command) {
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
    text += fmt::format("{:<12} {}{}{}\n", f.what, f.well ? "" : "PROBLEM: ", f.found,
                        f.note.empty() ? "" : "  (" + f.note + ")");
    well = well && f.well;
  }
  text += well ? "verdict      isobar can train here\n"
               : "verdict      isobar cannot train here; see PROBLEM above\n";
  if (json != "-") std::fputs(text.c_str(), stdout);
  write_report(json, "isobar.doctor.1", command, rows);
  return well ? 0 : 1;
}

}  // namespace isobar
