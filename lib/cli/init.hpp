// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/data_file.hpp"

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

struct InitArguments {
  std::string file;    ///< netCDF
  std::string output;  ///< the experiment to write; empty: after the file
  std::string name;    ///< of the run; empty: after the file
  std::vector<std::string> command;
};

void add_init_options(CLI::App& app, InitArguments& arguments);

/// The text of an experiment that trains on `file`, whose runs are called `name`: small, with every
/// choice explained. Throws DataError where the file has too few times, or nothing that changes.
std::string make_experiment(const DataFile& file, const std::string& name);

/// Writes an experiment, which must not be there yet. Returns the exit code.
int run_init(const InitArguments& arguments);

}  // namespace isobar
