// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

struct VerifyParityArguments {
  std::string file;
  std::string partition = "bands";
  std::string activations = "keep";
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void add_verify_parity_options(CLI::App& app, VerifyParityArguments& arguments);

/// Computes what a parity file holds, the ranks sharing its sample, in float32 and float64, and
/// compares: output, loss, every gradient, losses over AdamW updates. Returns 0 if all agree.
int run_verify_parity(const VerifyParityArguments& arguments);

}  // namespace isobar
