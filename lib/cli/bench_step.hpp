// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "bench/harness/measure_step.hpp"
#include "bench/harness/step_arguments.hpp"
#include "cli/bench_parallel.hpp"

namespace isobar {

struct BenchStepArguments {
  bench::StepArguments common;
  std::string backend = "auto";
  std::string transport_levels = "auto";  ///< CommunicatorOptions::levels
  ParallelArguments parallel;
  std::string dump_gradients;  ///< a safetensors file, or empty
  std::string dump_graph;      ///< file, empty for none
};

/// Adds the options of `isobar bench step`; `arguments` must outlive the parsing.
void add_bench_step_options(CLI::App& app, BenchStepArguments& arguments);

/// The step that the arguments describe. `arguments`, `comm` and `grid`, which may be null,
/// must outlive it.
bench::StepCase make_step_case(const BenchStepArguments& arguments,
                               bench::MakeWorkload make_workload, Communicator& comm,
                               const ProcessGrid* grid);

/// Measures a training step and prints a table. Returns the exit code: 0 if gradients
/// and parameters were right.
int run_bench_step(const BenchStepArguments& arguments);

}  // namespace isobar
