// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "bench/harness/step_arguments.hpp"

namespace isobar {

struct BenchStepArguments {
  bench::StepArguments common;
  std::string backend = "auto";
  std::string grid = "O32";  ///< gnn, as are the next four
  int64_t hidden = 3;
  int64_t channels = 128;
  int64_t prognostic = 10;
  int64_t forcing = 2;
  std::string dump_gradients;  ///< a safetensors file, or empty
};

/// Adds the options of `isobar bench step`; `arguments` must outlive the parsing.
void add_bench_step_options(CLI::App& app, BenchStepArguments& arguments);

/// Measures a training step and prints a table. Returns the exit code: 0 if gradients
/// and parameters were right.
int run_bench_step(const BenchStepArguments& arguments);

}  // namespace isobar
