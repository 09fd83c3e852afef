// SPDX-License-Identifier: Apache-2.0
// `isobar evaluate`: scores as tables and rows, which rank 0 prints and writes.
#include "cli/command.hpp"
#include "cli/scores_table.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/weather/checkpoint_scores.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace isobar {
namespace {

struct EvaluateArguments {
  CheckpointScoring scoring;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

nlohmann::json rows_of(const std::vector<LeadScore>& scores, const std::string& split) {
  auto rows = nlohmann::json::array();
  for (const auto& lead : scores) {
    for (const auto& s : lead.variables) {
      rows.push_back({{"split", split},
                      {"lead_hours", lead.lead_hours},
                      {"variable", s.variable},
                      {"samples", lead.samples},
                      {"rmse", s.rmse},
                      {"bias", s.bias},
                      {"acc", s.acc},
                      {"persistence", s.persistence},
                      {"previous_day", s.previous_day}});
    }
  }
  return rows;
}

nlohmann::json spectra_rows_of(const std::vector<LeadSpectra>& spectra, const std::string& split) {
  auto rows = nlohmann::json::array();
  for (const auto& lead : spectra) {
    for (const auto& s : lead.variables) {
      for (size_t k = 0; k < s.truth.size(); ++k) {
        rows.push_back({{"split", split},
                        {"lead_hours", lead.lead_hours},
                        {"variable", s.variable},
                        {"samples", s.samples},
                        {"wavenumber", k + 1},
                        {"forecast", s.forecast[k]},
                        {"truth", s.truth[k]},
                        {"ratio", s.forecast[k] / s.truth[k]}});
      }
    }
  }
  return rows;
}

void report(const CheckpointScores& scores, const EvaluateArguments& arguments) {
  const auto& found = scores.found;
  if (arguments.json != "-") {
    fmt::print("{}{}", scores_table(found.scores), spectra_table(found.spectra));
  }
  nlohmann::json more{{"warnings", scores.warnings}};
  if (arguments.scoring.spectra) {
    more["spectra"] = spectra_rows_of(found.spectra, arguments.scoring.split);
  }
  write_report(arguments.json, "isobar.evaluate.1", arguments.command,
               rows_of(found.scores, arguments.scoring.split), more);
  std::fflush(stdout);
}

void add_evaluate_options(CLI::App& app, EvaluateArguments& arguments) {
  app.add_option("path", arguments.scoring.path, "the folder of a run, or of a checkpoint")
      ->required();
  app.add_option("overrides", arguments.scoring.overrides, "keys to change, such as model.ranks=2");
  app.add_option("--split", arguments.scoring.split, "the period whose forecasts are scored")
      ->check(CLI::IsMember({"validation", "test"}));
  app.add_option("--rollout", arguments.scoring.rollout,
                 "score each step of forecasts of so many steps, not the experiment's lead times")
      ->check(check_positive)
      ->default_str("");
  app.add_option("--climatology", arguments.scoring.climatology,
                 "for the anomaly correlation: the mean of the training period; none leaves it out")
      ->check(CLI::IsMember({"training", "none"}));
  app.add_flag("--spectra", arguments.scoring.spectra,
               "compare the scales of forecast and truth: what is blurred");
  app.add_option("--maps", arguments.scoring.maps,
                 "write forecast and truth of the last sample to this file, for isobar report")
      ->check(check_report_file);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// Scores a checkpoint and prints a table.
int run_evaluate(const EvaluateArguments& arguments) {
  const auto scores = score_checkpoint(arguments.scoring, [](const std::string& line) {
    if (read_launch_environment().rank == 0) fmt::print(stderr, "isobar: warning: {}\n", line);
  });
  run_agreed(*scores.world, [&] {
    if (scores.world->rank() == 0) report(scores, arguments);
  });
  return 0;
}

const RegisteredCommand kEvaluate{
    {.place = 30,
     .group = "",
     .name = "evaluate",
     .description = "Score the forecasts of a trained model",
     .example = "isobar evaluate runs/quickstart --split validation --json scores.json",
     .add = with_arguments(add_evaluate_options, run_evaluate)}};

}  // namespace
}  // namespace isobar
