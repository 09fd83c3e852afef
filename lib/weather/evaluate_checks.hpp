// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/checkpoint_scores.hpp>
#include <isobar/weather/experiment.hpp>

#include <isobar/data/samples.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// What a checkpoint says of the run that it is of, before anything of the command line.
struct TrainedRun {
  std::map<std::string, std::string> keys;  ///< "section.key", and its value
  PeriodText trained;                       ///< whose targets were learnt, by the refit too
  PeriodText validation;                    ///< by which the checkpoint was chosen
  bool may_be_refit = false;                ///< where the checkpoint does not say
};

/// From the experiment's text in a checkpoint; `metadata` may name the period trained on.
TrainedRun read_trained_run(const std::string& yaml,
                            const std::map<std::string, std::string>& metadata);

/// What the command line changes of a checkpoint's experiment, which is then `changed`, not yet
/// read: no default is a change. Throws UsageError for a key that makes another model; gives a line
/// for each that plays no part in this call, or changes what the model was trained with.
std::vector<std::string> check_changes(const TrainedRun& run, const CheckpointScoring& scoring,
                                       const Config& changed);

/// A line for each set whose target times were trained on, or chose the checkpoint.
std::vector<std::string> check_overlap(const TrainedRun& run, const std::string& split,
                                       const std::vector<std::shared_ptr<const SampleSet>>& sets);

/// A line for each variable that has no score at a lead time, or none that is a finite number.
/// Throws DataError, naming `key`, for a lead time at which no variable could be scored.
std::vector<std::string> check_scores(const std::vector<LeadScore>& scores, const std::string& key);

}  // namespace isobar
