// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/config.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/projection/goal_trace.hpp>
#include <isobar/projection/projection_file.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sstream>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct ProjectArguments {
  std::vector<std::string> words;  ///< files, and key=value for all of them
  int draws = 400;
  std::uint64_t seed = 0;
  std::string csv;
  std::string goal;  ///< file of a trace; empty for none
  int goal_nodes = 4;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

int run_project(const ProjectArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  std::vector<std::string> files, overrides;
  for (const auto& word : arguments.words) {
    (word.find('=') == std::string::npos ? files : overrides).push_back(word);
  }
  ISOBAR_CHECK(!files.empty(), "project: wanted a file that says what is projected, got none");
  std::vector<ProjectedCurve> curves;
  for (const auto& file : files) {
    const auto config = load_config(file, overrides);
    auto projection = read_projection(config);
    config.finish();
    auto steps = project_steps(projection.input, projection.nodes,
                               {.draws = arguments.draws, .seed = arguments.seed});
    curves.push_back({.projection = std::move(projection), .steps = std::move(steps)});
  }
  if (arguments.json != "-") fmt::print("{}", projection_table(curves));
  if (!arguments.csv.empty()) write_file_atomically(arguments.csv, projection_csv(curves));
  if (!arguments.goal.empty()) {
    std::ostringstream trace;
    write_goal_trace(trace, curves.front().projection.input, arguments.goal_nodes);
    write_file_atomically(arguments.goal, trace.str());
  }
  write_report(arguments.json, "isobar.projection.1", arguments.command, projection_rows(curves),
               {{"campaign", curves.front().projection.campaign}});
  return 0;
}

void add_project_options(CLI::App& app, ProjectArguments& arguments) {
  app.add_option("FILE", arguments.words,
                 "what is projected, YAML files; and keys to change in all of them, such as "
                 "jitter.between_ranks=0")
      ->required();
  app.add_option("--draws", arguments.draws, "runs to draw for the intervals")
      ->check(CLI::Range(2, 1'000'000));
  app.add_option("--seed", arguments.seed, "of the draws");
  app.add_option("--csv", arguments.csv, "write the table to this file, with commas")
      ->check(check_report_file);
  app.add_option("--goal", arguments.goal,
                 "write the first file's step as a GOAL trace, for LogGOPSim or ATLAHS")
      ->check(check_report_file);
  app.add_option("--goal-nodes", arguments.goal_nodes, "nodes of that trace")
      ->check(check_positive);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

const RegisteredCommand kProject{{.place = 59,
                                  .group = "",
                                  .name = "project",
                                  .description = "Project a step to more nodes, with intervals",
                                  .example = "isobar project examples/projections/leonardo.yaml",
                                  .add = with_arguments(add_project_options, run_project)}};

}  // namespace
}  // namespace isobar
