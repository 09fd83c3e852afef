// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

struct VerifyLayoutArguments {
  std::string experiment;              ///< a YAML file
  std::vector<std::string> overrides;  ///< key=value
  int64_t steps = 10;
  int64_t samples = 4;  ///< a step, of all ranks; a multiple of 4
  std::string json;     ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void add_verify_layout_options(CLI::App& app, VerifyLayoutArguments& arguments);

/// Trains the same steps on 1 x 1, 1 x 4, 2 x 2 and 4 x 1 ranks (of a model x replicas), which are
/// threads of this process, and compares losses, gradients and weights with those of 1 x 1: with
/// sgd and adamw, in float32 and float64. Returns 0 if all agree.
int run_verify_layout(const VerifyLayoutArguments& arguments);

}  // namespace isobar
