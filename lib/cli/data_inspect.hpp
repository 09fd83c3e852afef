// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

struct DataInspectArguments {
  std::string file;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void add_data_inspect_options(CLI::App& app, DataInspectArguments& arguments);

/// Prints what a netCDF file holds, by variable: dimensions, type, units, and of all values the
/// least, the greatest and how many are missing. Returns 0 if all could be read.
int run_data_inspect(const DataInspectArguments& arguments);

}  // namespace isobar
