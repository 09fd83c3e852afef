// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar::bench {

/// What every program that measures a collective takes on its command line.
struct Arguments {
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

/// Adds the options, each with its check; `arguments` must outlive the parsing.
void add_options(CLI::App& app, Arguments& arguments);

}  // namespace isobar::bench
