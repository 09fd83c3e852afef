// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/process_life.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace isobar {
namespace {

struct ProcessStat {
  char state = '?';
  uint64_t start_ticks = 0;
};

std::string entry_of(int64_t pid) { return "/proc/" + std::to_string(pid); }

/// What proc(5) says of a process; nothing where it has no entry, or no file is left to read it.
std::optional<ProcessStat> stat_of(int64_t pid) {
  std::ifstream file(entry_of(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The second field is the program's name in parentheses and may hold any character.
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  ProcessStat stat;
  fields >> stat.state;
  constexpr int kFirst = 4;
  constexpr int kStartTime = 22;
  std::string skipped;
  for (int field = kFirst; field < kStartTime; ++field) fields >> skipped;
  fields >> stat.start_ticks;
  return stat;
}

uint64_t pid_namespace() {
  struct stat entry {};
  return stat("/proc/self/ns/pid", &entry) == 0 ? entry.st_ino : 0;
}

}  // namespace

ProcessId this_process() {
  const int64_t pid = getpid();
  const auto stat = stat_of(pid);
  return {pid, stat ? stat->start_ticks : 0, pid_namespace()};
}

bool has_ended(const ProcessId& process) {
  if (process.pid_namespace == 0 || process.start_ticks == 0) return false;
  if (process.pid_namespace != pid_namespace()) return false;
  const auto stat = stat_of(process.pid);
  if (!stat) return access(entry_of(process.pid).c_str(), F_OK) != 0;
  // A killed process keeps its entry, as a zombie, until its parent has asked for its exit code.
  return stat->state == 'Z' || stat->state == 'X' || stat->start_ticks != process.start_ticks;
}

}  // namespace isobar
