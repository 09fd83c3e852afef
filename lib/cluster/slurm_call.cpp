// SPDX-License-Identifier: Apache-2.0
#include "cluster/slurm_call.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <regex>
#include <sstream>

#include "cluster/shell_text.hpp"

namespace isobar {
namespace {

constexpr int kNotFound = 127;  // of a POSIX shell

std::string command_of(const std::vector<std::string>& words, const std::string& input) {
  return "printf %s " + quoted(input) + " | " + quoted(words) + " 2>&1";
}

}  // namespace

Answer ask_slurm(const std::vector<std::string>& words, const std::string& input) {
  FILE* pipe = ::popen(command_of(words, input).c_str(), "re");
  if (pipe == nullptr) {
    throw Error(detail::join(words.front(), " cannot be started: ", std::strerror(errno)));
  }
  Answer answer;
  std::array<char, 4096> block{};
  while (const auto got = std::fread(block.data(), 1, block.size(), pipe)) {
    answer.text.append(block.data(), got);
  }
  const int status = ::pclose(pipe);
  answer.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ISOBAR_CHECK(answer.code != kNotFound, words.front(),
               " is not on the PATH: start this where jobs are submitted, on a login node of a "
               "machine with Slurm");
  return answer;
}

std::string one_line(const std::string& text) {
  static const std::regex speaker("^(sbatch|scancel|scontrol|sacct): (error: )?");
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    line = std::regex_replace(line, speaker, "");
    if (!line.empty()) lines.push_back(line);
  }
  return lines.empty() ? "nothing" : join_words(lines, "; ");
}

}  // namespace isobar
