// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/plan_sums.hpp"

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

struct PlanArguments {
  std::string experiment;              ///< a YAML file
  std::vector<std::string> overrides;  ///< key=value
  std::string device_memory;           ///< such as 64GiB; empty: no limit
  PlannedMachines machines;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void add_plan_options(CLI::App& app, PlanArguments& arguments);

/// Predicts what a training step of an experiment takes on each rank of a model, for each length of
/// forecast. Needs the data only where they are the grid. Returns 1 where it does not fit.
int run_plan(const PlanArguments& arguments);

}  // namespace isobar
