// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"
#include "cli/experiment_file.hpp"

#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/weather/compare_layouts.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct VerifyLayoutArguments {
  std::string experiment;              ///< a YAML file
  std::vector<std::string> overrides;  ///< key=value
  LayoutComparison comparison;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void print_row(const LayoutDifference& row) {
  fmt::print("{:6} {:5} {:7} {:28} {:9.2e} {:6.0e} {}\n", row.layout, row.optimizer, row.precision,
             row.quantity, row.difference, row.tolerance, row.holds() ? "holds" : "FAILS");
  if (!row.holds() && !row.tensor.empty()) fmt::print("       largest in {}\n", row.tensor);
  std::fflush(stdout);
}

nlohmann::json json_of(const LayoutDifference& row) {
  return {{"layout", row.layout},       {"optimizer", row.optimizer},
          {"precision", row.precision}, {"quantity", row.quantity},
          {"tensor", row.tensor},       {"difference", row.difference},
          {"tolerance", row.tolerance}, {"holds", row.holds()}};
}

void add_verify_layout_options(CLI::App& app, VerifyLayoutArguments& arguments) {
  app.add_option("experiment", arguments.experiment, "the experiment, a YAML file")->required();
  app.add_option("overrides", arguments.overrides, "keys to change, such as train.steps=100");
  app.add_option("--steps", arguments.comparison.steps, "training steps to compare")
      ->check(check_positive);
  app.add_option("--samples", arguments.comparison.samples,
                 "samples of a step, of all ranks; a multiple of 4")
      ->check(check_positive);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// Prints what compare_layouts() finds. Returns 0 if all agree.
int run_verify_layout(const VerifyLayoutArguments& arguments) {
  // Its ranks are threads of one process; what a launcher starts beside that would repeat it.
  if (read_launch_environment().rank != 0) return 0;
  bool holds = true;
  auto rows = nlohmann::json::array();
  compare_layouts(read_experiment_file(arguments.experiment, arguments.overrides),
                  arguments.comparison, [&](const LayoutDifference& row) {
                    holds = holds && row.holds();
                    rows.push_back(json_of(row));
                    if (arguments.json != "-") print_row(row);
                  });
  write_report(arguments.json, "isobar.verify_layout.1", arguments.command, rows);
  if (arguments.json != "-") fmt::print("{}\n", holds ? "layouts agree" : "layouts DIFFER");
  return holds ? 0 : 1;
}

const RegisteredCommand kVerifyLayout{
    {.place = 61,
     .group = "",
     .name = "verify-layout",
     .description = "Check that ranks do not change what is learnt",
     .example = "isobar verify-layout examples/experiments/quickstart.yaml --steps 2",
     .add = with_arguments(add_verify_layout_options, run_verify_layout)}};

}  // namespace
}  // namespace isobar
