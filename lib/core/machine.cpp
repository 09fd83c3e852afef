// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/machine.hpp>

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

namespace isobar {
namespace {

int count_cores(pid_t process) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(process, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
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

// Of each thread the kernel tells, in nanoseconds, how long it ran and how long it waited.
std::optional<double> run_delay_s() {
  double nanoseconds = 0;
  bool counted = false;
  std::error_code none;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", none)) {
    double ran = 0, waited = 0;
    if (!(std::ifstream(thread.path() / "schedstat") >> ran >> waited)) continue;
    nanoseconds += waited;
    counted = true;
  }
  if (!counted) return std::nullopt;
  return 1e-9 * nanoseconds;
}

}  // namespace isobar
