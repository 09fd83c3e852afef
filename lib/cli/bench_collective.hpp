// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "bench/harness/arguments.hpp"

namespace isobar {

struct BenchCollectiveArguments {
  bench::Arguments common;
  std::string backend = "auto";
  bool deterministic = false;
  std::string levels = "auto";
};

/// Adds the options of `isobar bench collective`; `arguments` must outlive the parsing.
void add_bench_collective_options(CLI::App& app, BenchCollectiveArguments& arguments);

/// Measures one collective and prints a table. Returns the exit code: 0 if every
/// result was right.
int run_bench_collective(const BenchCollectiveArguments& arguments);

}  // namespace isobar
