// SPDX-License-Identifier: Apache-2.0
// Called on every rank, before anything is measured. Nothing here fails: what a node does not say
// is left out, since the nodes are compared with each other and with a profile afterwards, and a
// fact that is missing on one is a finding itself. hwloc would say the same of Linux, from the same
// files.
#include "bench/node_facts.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/file_hash.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/version.hpp>
#include <ATen/detail/CUDAHooksInterface.h>
#include <sys/resource.h>
#include <link.h>
#include <sched.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "bench/core_list.hpp"

namespace isobar::bench {
namespace {

namespace fs = std::filesystem;

std::string line_of(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

int number_of_file(const fs::path& file, int otherwise) {
  int number = otherwise;
  std::ifstream(file) >> number;
  return number;
}

std::vector<int> cores_of_file(const fs::path& file) {
  try {
    return parse_core_list(line_of(file));
  } catch (const std::exception&) {
    return {};
  }
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::error_code none;
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder, none)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::string link_name(const fs::path& link) {
  std::error_code none;
  return fs::read_symlink(link, none).filename().string();
}

/// The line of /proc/driver/nvidia/gpus/BUS/information that has the UUID.
std::string nvidia_uuid(const fs::path& root, const std::string& bus) {
  std::ifstream stream(root / "proc/driver/nvidia/gpus" / bus / "information");
  for (std::string line; std::getline(stream, line);) {
    const auto at = line.find("GPU-");
    if (line.starts_with("GPU UUID") && at != std::string::npos) return line.substr(at);
  }
  return {};
}

std::vector<int> own_cores() {
  // Larger machines than the fixed set has places for are asked for with a larger one.
  for (std::size_t places = CPU_SETSIZE; places <= (1u << 16); places *= 2) {
    std::vector<cpu_set_t> sets(CPU_ALLOC_SIZE(places) / sizeof(cpu_set_t) + 1);
    const auto bytes = sets.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, sets.data()) != 0) continue;
    std::vector<int> cores;
    for (std::size_t core = 0; core < 8 * bytes; ++core) {
      if (CPU_ISSET_S(core, bytes, sets.data())) cores.push_back(static_cast<int>(core));
    }
    return cores;
  }
  return {};
}

std::vector<int> numa_nodes_of(const std::vector<int>& cores, const fs::path& root) {
  std::vector<int> found;
  for (const auto& folder : sorted_entries(root / "sys/devices/system/node")) {
    const auto name = folder.filename().string();
    if (!name.starts_with("node") || name.size() < 5 || !std::isdigit(name[4])) continue;
    if (!common_cores(cores, cores_of_file(folder / "cpulist")).empty())
      found.push_back(std::stoi(name.substr(4)));
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) words.push_back(word);
  return words;
}

std::optional<int> whole_number(const std::string& word) {
  if (word.empty() || word.find_first_not_of("0123456789") != std::string::npos) return {};
  return std::stoi(word.substr(0, 9));
}

/// Places among `gpus` of the GPUs that the rank sees. A batch system that shuts the others away
/// counts the visible ones from 0, and says elsewhere which they are.
std::vector<int> visible_places(const std::vector<BusGpu>& gpus, const PreflightOptions& options) {
  std::vector<int> places;
  const auto count = static_cast<int>(gpus.size());
  const auto visible = split_commas(options.visible_gpus);
  const auto step = split_commas(options.step_gpus);
  for (int i = 0; visible.empty() && i < count; ++i) places.push_back(i);
  for (std::size_t i = 0; i < visible.size(); ++i) {
    const auto number = whole_number(step.size() == visible.size() ? step[i] : visible[i]);
    const auto found = std::find_if(gpus.begin(), gpus.end(), [&](const BusGpu& gpu) {
      return !gpu.uuid.empty() && !visible[i].empty() && gpu.uuid.starts_with(visible[i]);
    });
    if (number && *number < count) places.push_back(*number);
    if (!number && found != gpus.end()) places.push_back(static_cast<int>(found - gpus.begin()));
  }
  return places;
}

std::map<std::string, std::string> fabric_states(const fs::path& root) {
  std::map<std::string, std::string> states;
  for (const auto& device : sorted_entries(root / "sys/class/infiniband")) {
    for (const auto& port : sorted_entries(device / "ports")) {
      auto state = line_of(port / "state");  // "4: ACTIVE"
      state = state.substr(std::min(state.size(), state.find(' ') + 1));
      auto& said = states[device.filename().string()];
      said += (said.empty() ? "" : "; ") + state + ", " + line_of(port / "rate");
    }
  }
  for (const auto& device : sorted_entries(root / "sys/class/cxi")) {
    const auto properties = device / "device/properties";
    states[device.filename().string()] =
        line_of(properties / "link") + ", " + line_of(properties / "speed");
  }
  return states;
}

/// The folder of a network interface's device.
fs::path nic_device(const std::string& nic, const fs::path& root) {
  for (const char* kind : {"infiniband", "cxi", "net"}) {
    const auto device = root / "sys/class" / kind / nic / "device";
    if (fs::exists(device)) return device;
  }
  return {};
}

/// Those of the NUMA nodes; all where none is.
std::vector<std::string> nics_near(const std::vector<int>& numa_nodes, const fs::path& root) {
  std::vector<std::string> near, all;
  for (const auto& [nic, state] : read_nic_states(root)) {
    const int numa = number_of_file(nic_device(nic, root) / "numa_node", -1);
    const bool is_near = std::count(numa_nodes.begin(), numa_nodes.end(), numa) > 0;
    if (is_near) near.push_back(nic);
    all.push_back(nic);
  }
  return near.empty() ? all : near;
}

std::string hexadecimal(const unsigned char* bytes, std::size_t count) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

/// The build's number in the notes of a loaded library; empty where its linker wrote none.
std::string build_number(const dl_phdr_info& library) {
  constexpr std::size_t kHead = sizeof(ElfW(Nhdr));
  for (int i = 0; i < library.dlpi_phnum; ++i) {
    const auto& part = library.dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const auto* const notes =
        reinterpret_cast<const unsigned char*>(library.dlpi_addr + part.p_vaddr);
    for (std::size_t at = 0; at + kHead <= part.p_memsz;) {
      ElfW(Nhdr) note;
      std::memcpy(&note, notes + at, kHead);
      const auto name = at + kHead, value = name + ((note.n_namesz + 3) & ~3u);
      if (value + note.n_descsz > part.p_memsz) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
          std::memcmp(notes + name, "GNU", 4) == 0) {
        return hexadecimal(notes + value, note.n_descsz);
      }
      at = value + ((note.n_descsz + 3) & ~3u);
    }
  }
  return {};
}

int add_library(dl_phdr_info* library, std::size_t, void* into) {
  const fs::path path = library->dlpi_name;
  if (!path.has_parent_path()) return 0;  // the program itself, and the kernel's own
  std::error_code none;
  auto build = build_number(*library);
  if (build.empty()) build = std::to_string(fs::file_size(path, none)) + " bytes";
  const auto name = path.filename().string();
  auto& libraries = *static_cast<std::map<std::string, LoadedLibrary>*>(into);
  libraries[name.substr(0, name.find(".so"))] = {fs::weakly_canonical(path, none).string(), build};
  return 0;
}

/// Two builds of one commit are two programs.
std::string own_program() {
  try {
    return hash_file("/proc/self/exe").xxh3_128;
  } catch (const Error&) {
    return {};
  }
}

void add_unless_empty(std::map<std::string, std::string>& versions, const std::string& name,
                      const std::string& version) {
  if (!version.empty()) versions[name] = version;
}

}  // namespace

std::vector<BusGpu> find_bus_gpus(const fs::path& root) {
  std::vector<BusGpu> gpus;
  for (const auto& device : sorted_entries(root / "sys/bus/pci/devices")) {
    const auto driver = link_name(device / "driver");
    const bool is_display = line_of(device / "class").starts_with("0x03");
    if (!is_display || (driver != "nvidia" && driver != "amdgpu")) continue;
    const auto bus = device.filename().string();
    gpus.push_back({bus, nvidia_uuid(root, bus), number_of_file(device / "numa_node", -1),
                    cores_of_file(device / "local_cpulist")});
  }
  return gpus;
}

int gpu_of_rank(const std::vector<BusGpu>& gpus, const PreflightOptions& options, int local_rank) {
  const auto places = visible_places(gpus, options);
  return places.empty() ? -1 : places[static_cast<std::size_t>(local_rank) % places.size()];
}

std::map<std::string, std::string> read_nic_states(const fs::path& root) {
  auto states = fabric_states(root);
  if (!states.empty()) return states;
  for (const auto& device : sorted_entries(root / "sys/class/net")) {
    constexpr std::string_view kEthernet = "1";  // ARPHRD_ETHER
    const auto name = device.filename().string();
    const bool is_hardware = fs::exists(device / "device");
    if (!is_hardware || line_of(device / "type") != kEthernet) continue;
    if (line_of(device / "operstate") != "up") continue;
    const auto speed = line_of(device / "speed");
    states[name] = "up" + (speed.empty() || speed == "-1" ? "" : ", " + speed + " Mbit/s");
  }
  return states;
}

RankPlace read_place(const PreflightOptions& options, int local_rank, const fs::path& root) {
  RankPlace place;
  place.node = options.node.empty() ? host_name() : options.node;
  place.local_rank = local_rank;
  place.cores = own_cores();
  place.numa_nodes = numa_nodes_of(place.cores, root);
  place.node_cores = static_cast<int>(cores_of_file(root / "sys/devices/system/cpu/online").size());
  const auto gpus = find_bus_gpus(root);
  place.node_gpus = static_cast<int>(gpus.size());
  const auto& hooks = at::detail::getCUDAHooks();
  place.usable_gpus = hooks.hasCUDA() ? static_cast<int>(hooks.deviceCount()) : 0;
  place.gpu = gpu_of_rank(gpus, options, local_rank);
  if (place.gpu >= 0) {
    place.gpu_bus = gpus[place.gpu].bus;
    place.gpu_numa = gpus[place.gpu].numa;
    place.gpu_cores = gpus[place.gpu].cores;
  }
  place.nics =
      nics_near(place.gpu_numa >= 0 ? std::vector<int>{place.gpu_numa} : place.numa_nodes, root);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    constexpr rlim_t kMany = 1 << 30;  // what stands for no limit is no number for people
    place.open_files = static_cast<int64_t>(std::min(limit.rlim_cur, kMany));
    place.open_files_most = static_cast<int64_t>(std::min(limit.rlim_max, kMany));
  }
  return place;
}

std::map<std::string, std::string> read_versions(const PreflightOptions& options,
                                                 const fs::path& root) {
  auto versions = options.versions;
  versions["isobar"] = version() + " (commit " + commit() + ")";
  versions["LibTorch"] = torch_version();
  add_unless_empty(versions, "MPI", mpi_library_version());
  add_unless_empty(versions, "NCCL", nccl_library_version());
  add_unless_empty(versions, "kernel", line_of(root / "proc/sys/kernel/osrelease"));
  for (const char* module : {"nvidia", "amdgpu"}) {
    add_unless_empty(versions, "GPU driver", line_of(root / "sys/module" / module / "version"));
  }
  add_unless_empty(versions, "program", own_program());
  return versions;
}

std::map<std::string, LoadedLibrary> loaded_libraries() {
  std::map<std::string, LoadedLibrary> libraries;
  dl_iterate_phdr(add_library, &libraries);
  return libraries;
}

}  // namespace isobar::bench
