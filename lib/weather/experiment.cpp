// SPDX-License-Identifier: Apache-2.0
// read_experiment(), for every command that takes an experiment. What makes no sense is refused by
// its key, before anything is built; a section relies on those that were read before it.
#include <isobar/weather/experiment.hpp>

#include "weather/forecast_keys.hpp"
#include "weather/training_keys.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>

namespace isobar {

std::vector<std::string> Experiment::outputs() const {
  auto result = prognostic;
  result.insert(result.end(), diagnostic.begin(), diagnostic.end());
  return result;
}

double Experiment::weight_of(const std::string& variable) const {
  const auto given = variable_weights.find(variable);
  const double own = given == variable_weights.end() ? 1 : given->second;
  const auto level = pressure_level(variable);
  if (!level) return own;
  return own * std::max(level_weights.minimum, level_weights.slope * static_cast<double>(*level));
}

Period parse_period(const PeriodText& text, Calendar calendar) {
  try {
    return parse_period(text.begin, text.end, calendar);
  } catch (const UsageError& error) {
    throw UsageError(text.key + ": " + error.what());
  }
}

int64_t warmup_within(int64_t warmup_steps, int64_t steps) {
  return warmup_steps <= steps ? warmup_steps : steps / 10;
}

int64_t Experiment::longest_rollout() const {
  return trainer.rollout ? trainer.rollout->at(trainer.steps - 1) : 1;
}

Experiment read_experiment(const Config& config) {
  Experiment e;
  read_run(config, e);
  read_data(config, e);
  read_lead_hours(config, e);
  read_graph(config, e);
  read_model(config, e);
  read_loss(config, e);
  read_optimizer(config, e);
  read_training(config, e);
  read_rollout(config, e);
  read_compression(config, e);
  config.finish();
  e.lines = config.flatten();
  e.yaml = config.yaml();
  return e;
}

}  // namespace isobar
