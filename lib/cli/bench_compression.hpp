// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_step.hpp"

namespace isobar {

struct BenchCompressionArguments {
  BenchStepArguments step;
  std::vector<int64_t> matrix_approximation_ranks{4};
  std::vector<std::string> methods;  ///< beside "none"; empty for all
  double margin = 0.1;
  int measured_rounds = 0;  ///< 0: predictions only
};

/// Adds the options of `isobar bench compression`; `arguments` must outlive the parsing.
void add_bench_compression_options(CLI::App& app, BenchCompressionArguments& arguments);

/// Predicts a step for each way to compress and prints a table and an advice; measures the
/// steps too where rounds are asked for. Returns the exit code: 0 if what was measured was
/// right.
int run_bench_compression(const BenchCompressionArguments& arguments);

}  // namespace isobar
