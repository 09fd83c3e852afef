// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/parallel_step.hpp>
#include <isobar/bench/step_arguments.hpp>

#include <string>

namespace CLI {
class App;
}

namespace isobar {

struct BenchStepArguments {
  bench::StepArguments common;
  std::string backend = "auto";
  std::string transport_levels = "auto";  ///< CommunicatorOptions::levels
  bench::ParallelArguments parallel;
  std::string dump_gradients;  ///< a safetensors file, or empty
  std::string dump_graph;      ///< file, empty for none
};

/// Adds the options of `isobar bench step`; `arguments` must outlive the parsing.
void add_bench_step_options(CLI::App& app, BenchStepArguments& arguments);

/// Measures a training step and prints a table. Returns the exit code: 0 if gradients
/// and parameters were right.
int run_bench_step(const BenchStepArguments& arguments);

}  // namespace isobar
