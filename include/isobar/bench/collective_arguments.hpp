// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace isobar::bench {

/// What a program that measures a collective is asked for, in the words of its command line.
struct CollectiveArguments {
  std::string op = "allreduce";
  std::string bytes = "1MiB";
  std::string type = "float32";
  std::string device = "cpu";
  std::string repeats = "auto";
  int warmup = 2;
  int in_flight = 1;
  double stream_s = 1;               ///< length of each plain stream; 0 leaves them out
  std::string json;                  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;  ///< program and arguments, for the report
};

/// Timed repeats, a positive number, or 0 for "auto": chosen by the time that one
/// takes. Throws UsageError for anything else.
int parse_repeats(const std::string& text);

}  // namespace isobar::bench
