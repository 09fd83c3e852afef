// SPDX-License-Identifier: Apache-2.0
// Called by score_checkpoint() and the end of a training run, on every rank with the same
// arguments: what could make scores mean something else than they seem to. That is an experiment
// that was changed on the command line, times that were learnt, values that are not there.
#include "weather/evaluate_checks.hpp"

#include <isobar/core/error.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <string_view>

namespace isobar {
namespace {

using Keys = std::map<std::string, std::string>;

/// Keys, or sections of them, that are the trained network's: what it sees, forecasts and is.
constexpr std::array<std::string_view, 15> kModel{
    "data.variables",   "data.diagnostic",     "data.forcing_variables", "data.normalization",
    "data.forcings",    "data.input_forcings", "data.target_forcings",   "data.seen_hours",
    "data.input_hours", "data.step_hours",     "model.channels",         "model.layers",
    "model.node_table", "model.edge_table",    "loss.scale_by_tendency"};

/// Those of what a variable is taken from (other files may call a level otherwise), of the mesh and
/// of how it is computed, which may be another one; forecasts then differ.
constexpr std::array<std::string_view, 13> kForecast{"data.select",
                                                     "graph.grid",
                                                     "graph.hidden_level",
                                                     "graph.hidden_grid",
                                                     "graph.processor_neighbours",
                                                     "graph.min_level",
                                                     "graph.margin_degrees",
                                                     "graph.cutoff_factor",
                                                     "graph.max_neighbours",
                                                     "graph.decoder_neighbours",
                                                     "model.bounding",
                                                     "optimizer.average_decay",
                                                     "train.precision"};

/// Those that say where, how and on what is scored.
constexpr std::array<std::string_view, 16> kScoring{"device",
                                                    "comm",
                                                    "data.path",
                                                    "data.time",
                                                    "data.latitude",
                                                    "data.longitude",
                                                    "data.allow_missing",
                                                    "data.cache_bytes",
                                                    "graph.area",
                                                    "graph.cache",
                                                    "graph.partition",
                                                    "model.ranks",
                                                    "model.activations",
                                                    "model.chunk_edges",
                                                    "model.device_memory",
                                                    "train.batch"};

/// Whether a key is this one, or of the section of this name.
bool is_of(std::string_view key, std::string_view name) {
  return key.starts_with(name) && (key.size() == name.size() || key[name.size()] == '.');
}

template <typename Names>
bool is_in(const std::string& key, const Names& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view name) { return is_of(key, name); });
}

bool plays_a_part(const std::string& key, const CheckpointScoring& scoring) {
  return is_in(key, kScoring) || is_of(key, "data." + scoring.split) ||
         (scoring.rollout == 0 && key == scoring.split + ".lead_hours") ||
         (scoring.climatology != "none" && is_of(key, "data.train"));
}

Keys keys_of(const std::vector<std::string>& lines) {
  Keys keys;
  for (const auto& line : lines) {
    const auto equals = line.find('=');
    keys[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return keys;
}

std::string value_of(const Keys& keys, const std::string& key) {
  const auto found = keys.find(key);
  return found == keys.end() ? "" : found->second;
}

/// Keys that were given another value, or have lost theirs.
std::set<std::string> changed_keys(const Keys& before, const Keys& after) {
  std::set<std::string> changed;
  for (const auto* keys : {&before, &after}) {
    for (const auto& [key, value] : *keys) {
      if (value_of(before, key) != value_of(after, key)) changed.insert(key);
    }
  }
  return changed;
}

PeriodText period_of(const Keys& keys, const std::string& key) {
  return {key, value_of(keys, key + ".begin"), value_of(keys, key + ".end")};
}

/// Of a set's target times, those in a period; "" where there is none.
std::string overlap(const SampleSet& samples, const PeriodText& text, const std::string& what) {
  const auto calendar = samples.dataset().calendar();
  std::optional<Period> period;
  try {
    period = parse_period(text, calendar);
  } catch (const UsageError&) {
    return {};  // no time of these data's calendar
  }
  const auto targets = samples.target_times();
  const auto within = [&](int64_t time) { return period->contains(time); };
  const auto shared = std::count_if(targets.begin(), targets.end(), within);
  if (shared == 0) return {};
  return fmt::format("{} of {} target times are of {}, {} to {}, the first {}", shared,
                     targets.size(), what, text.begin, text.end,
                     format_time(*std::find_if(targets.begin(), targets.end(), within), calendar));
}

}  // namespace

TrainedRun read_trained_run(const std::string& yaml,
                            const std::map<std::string, std::string>& metadata) {
  TrainedRun run;
  run.keys = keys_of(Config::parse(yaml, "experiment").flatten());
  run.trained = period_of(run.keys, "data.train");
  run.validation = period_of(run.keys, "data.validation");
  const auto begin = metadata.find("trained_from"), end = metadata.find("trained_until");
  if (begin != metadata.end() && end != metadata.end()) {
    run.trained.begin = begin->second;
    run.trained.end = end->second;
  } else {
    run.may_be_refit = value_of(run.keys, "train.refit") == "true";
  }
  return run;
}

std::vector<std::string> check_changes(const TrainedRun& run, const CheckpointScoring& scoring,
                                       const Config& changed) {
  const auto after = keys_of(changed.flatten());
  std::vector<std::string> said;
  for (const auto& key : changed_keys(run.keys, after)) {
    const auto before = value_of(run.keys, key);
    const auto trained = before.empty() ? "without it" : "with " + before;
    const auto now = value_of(after, key).empty() ? "none" : value_of(after, key);
    ISOBAR_CHECK(!is_in(key, kModel), "evaluate: ", key, "=", now, ": the model was trained ",
                 trained, ", and is scored as what it is; leave that out");
    if (is_in(key, kForecast)) {
      said.push_back(fmt::format("{}={}: the model was trained {}", key, now, trained));
    } else if (!plays_a_part(key, scoring)) {
      said.push_back(fmt::format("{}={} plays no part in these scores", key, now));
    }
  }
  return said;
}

std::vector<std::string> check_overlap(const TrainedRun& run, const std::string& split,
                                       const std::vector<std::shared_ptr<const SampleSet>>& sets) {
  std::vector<std::string> lines;
  for (const auto& samples : sets) {
    auto found = overlap(*samples, run.trained, "the period that the model was trained on");
    if (found.empty() && split == "test") {
      found = overlap(*samples, run.validation, "the period by which the checkpoint was chosen");
    }
    if (found.empty() && split == "validation" && run.may_be_refit) {
      found = overlap(*samples, run.validation, "what may have been trained on by train.refit");
    }
    if (found.empty()) continue;
    lines.push_back(fmt::format("data.{} at {} h: {}; scores there say little of other times",
                                split, samples->period_hours().back(), found));
  }
  return lines;
}

std::vector<std::string> check_scores(const std::vector<LeadScore>& scores,
                                      const std::string& key) {
  std::vector<std::string> lines;
  for (const auto& lead : scores) {
    const auto place = fmt::format("{} at {} h", key, lead.lead_hours);
    const auto is_known = [](const VariableScore& score) { return score.known > 0; };
    if (std::none_of(lead.variables.begin(), lead.variables.end(), is_known)) {
      throw DataError(fmt::format(
          "{}: every value is missing at the target times of all {} samples, so there is nothing "
          "to score; choose another period",
          place, lead.samples));
    }
    for (const auto& score : lead.variables) {
      if (!is_known(score)) {
        lines.push_back(
            fmt::format("{}: every value of '{}' is missing at the target times; it is not scored",
                        place, score.variable));
      } else if (!std::isfinite(score.rmse)) {
        lines.push_back(
            fmt::format("{}: forecasts of '{}' are no finite numbers", place, score.variable));
      }
    }
  }
  return lines;
}

}  // namespace isobar
