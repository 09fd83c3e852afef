// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

struct DataVerifyArguments {
  std::vector<std::string> files;
  std::vector<std::string> variables;  ///< empty for all that are fields over time
  std::map<std::string, std::string> select;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void add_data_verify_options(CLI::App& app, DataVerifyArguments& arguments);

/// Reads all fields of files and prints what does not look like weather: what cannot be read or is
/// missing, values far outside the rest, fields that are constant, do not change or change too
/// much, and what is amiss with times and grid. Returns 0 if nothing is.
int run_data_verify(const DataVerifyArguments& arguments);

}  // namespace isobar
