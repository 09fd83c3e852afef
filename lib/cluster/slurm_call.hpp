// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace isobar {

/// What a program said, errors included, and the code that it ended with.
struct Answer {
  int code = 0;
  std::string text;
};

/// Runs one of Slurm's commands with `input` on its standard input, and waits for it. Throws
/// UsageError where it is not there, Error where it cannot be started.
Answer ask_slurm(const std::vector<std::string>& words, const std::string& input = {});

/// What was said as one line, without "sbatch: error: " and the like.
std::string one_line(const std::string& text);

}  // namespace isobar
