// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/forecast_scores.hpp>
#include <isobar/train/forecast_spectra.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

struct TrainArguments {
  std::string experiment;              ///< a YAML file
  std::vector<std::string> overrides;  ///< key=value
  std::vector<std::string> command;    ///< program and arguments, for the record
};

/// Trains an experiment, scores its best checkpoint on the test period once, and
/// prints a table. Returns the exit code.
int run_train(const TrainArguments& arguments);

struct EvaluateArguments {
  std::string path;                    ///< a run's folder, or a checkpoint's
  std::vector<std::string> overrides;  ///< key=value, over the checkpoint's experiment
  std::string split = "test";
  std::string climatology = "training";  ///< "none": without anomaly correlation
  bool spectra = false;
  int64_t rollout = 0;  ///< steps of a forecast, each scored; 0: the experiment's lead times
  std::string json;     ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

/// Scores a checkpoint and prints a table. Returns the exit code.
int run_evaluate(const EvaluateArguments& arguments);

/// Prints what was found on this machine, with a verdict. Returns 0 if isobar
/// can train here. `json` as in EvaluateArguments.
int run_doctor(const std::string& json, const std::vector<std::string>& command);

/// What `isobar --version` prints.
std::string version_text();

/// A table of scores for people.
std::string scores_table(const std::vector<LeadScore>& scores);

/// The forecast's power over the truth's on large, medium and small scales; empty for none.
std::string spectra_table(const std::vector<LeadSpectra>& spectra);

}  // namespace isobar
