// SPDX-License-Identifier: Apache-2.0
#include "core/terminal.hpp"

#include <sys/ioctl.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>

namespace isobar::detail {
namespace {

std::optional<Terminal> terminal_of(int descriptor) {
  if (::isatty(descriptor) == 0) return std::nullopt;
  winsize size{};
  const bool known = ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return Terminal{known ? size.ws_col : 80};
}

/// "name" and parent of a process, as /proc/<pid>/stat has them: pid (name) state parent ...
struct Process {
  std::string name;
  pid_t parent = 0;
};

Process process(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  const auto open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 > text.size()) return {};
  return {text.substr(open + 1, close - open - 1), std::atoi(text.c_str() + close + 4)};
}

bool is_launcher(const std::string& name) {
  static constexpr std::array kNames{"mpirun",        "mpiexec",         "orterun", "prterun",
                                     "mpiexec.hydra", "hydra_pmi_proxy", "prte"};
  for (const char* each : kNames) {
    if (name == each) return true;
  }
  // Such as mpirun.openmpi; names are cut after 15 letters.
  return name.rfind("mpirun", 0) == 0 || name.rfind("mpiexec", 0) == 0;
}

/// The standard error of another process of this user.
std::optional<Terminal> terminal_of_process(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/2";
  std::array<char, 64> target{};
  // Whatever else it may be is left alone.
  if (::readlink(path.c_str(), target.data(), target.size() - 1) <= 0) return std::nullopt;
  if (std::string(target.data()).rfind("/dev/", 0) != 0) return std::nullopt;
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  const auto terminal = terminal_of(descriptor);
  ::close(descriptor);
  return terminal;
}

}  // namespace

std::optional<Terminal> standard_error_terminal() {
  if (const auto own = terminal_of(STDERR_FILENO)) return own;
  std::array<char, 16> target{};
  // Sent to a file, nobody sees it, whoever started the program.
  if (::readlink("/proc/self/fd/2", target.data(), target.size() - 1) <= 0) return std::nullopt;
  if (std::string(target.data()).rfind("pipe:", 0) != 0) return std::nullopt;
  pid_t pid = ::getppid();
  constexpr int kGenerations = 4;  // a script or a proxy may stand between
  for (int i = 0; i < kGenerations && pid > 1; ++i) {
    const auto parent = process(pid);
    if (is_launcher(parent.name)) {
      if (const auto terminal = terminal_of_process(pid)) return terminal;
    }
    pid = parent.parent;
  }
  return std::nullopt;
}

}  // namespace isobar::detail
