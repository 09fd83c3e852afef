// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/machine.hpp>

#include <sys/resource.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGroups = "/sys/fs/cgroup";

int count_cores(pid_t process) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(process, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
}

/// Where this process's control group for processor time lies, and how deep below which folder: of
/// version 1 that of the controller, of version 2 the one hierarchy.
struct GroupPlace {
  fs::path root;
  fs::path below;
};

std::vector<GroupPlace> cpu_groups() {
  std::vector<GroupPlace> found;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto below = fs::path(line.substr(second + 1)).relative_path();
    if (controllers.empty()) found.push_back({kGroups, below});
    if (("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    for (const auto& name : {controllers, std::string("cpu")}) {
      found.push_back({fs::path(kGroups) / name, below});
    }
  }
  return found;
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

double cpu_s(const rusage& usage) {
  return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

/// What cpu.stat of a group says; of version 1 in nanoseconds.
std::optional<double> throttled_of(const fs::path& group) {
  std::ifstream file(group / "cpu.stat");
  std::string name;
  for (double value = 0; file >> name >> value;) {
    if (name == "throttled_usec") return 1e-6 * value;
    if (name == "throttled_time") return 1e-9 * value;
  }
  return std::nullopt;
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

int64_t machine_memory_bytes() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  // Of control groups 2 and 1, as a container or a batch system sees its own; "max" is no number.
  for (const char* file :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    int64_t limit = 0;
    if (std::ifstream(file) >> limit && limit > 0) bytes = std::min(bytes, limit);
  }
  return bytes;
}

UsableCores usable_cores() {
  const int own = std::max(1, count_cores(0));
  return {own, std::max(own, count_cores(getppid()))};
}

// The kernel tells, in nanoseconds, how long the thread ran and how long it waited.
std::optional<double> run_delay_s() {
  double ran = 0, waited = 0;
  if (!(std::ifstream("/proc/thread-self/schedstat") >> ran >> waited)) return std::nullopt;
  return 1e-9 * waited;
}

std::optional<double> other_threads_cpu_s() {
  rusage all{}, own{};
  if (getrusage(RUSAGE_SELF, &all) != 0 || getrusage(RUSAGE_THREAD, &own) != 0) return std::nullopt;
  return cpu_s(all) - cpu_s(own);
}

// A group above may have the quota: the longest counts. In a container the path may be one that is
// only known outside; its own group is then what is mounted.
std::optional<double> throttled_s() {
  std::optional<double> most;
  for (const auto& [root, below] : cpu_groups()) {
    for (auto depth = below;; depth = depth.parent_path()) {
      if (const auto seconds = throttled_of(depth.empty() ? root : root / depth)) {
        most = std::max(most.value_or(0), *seconds);
      }
      if (depth.empty()) break;
    }
  }
  return most;
}

}  // namespace isobar
