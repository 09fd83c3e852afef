// SPDX-License-Identifier: Apache-2.0
#include "weather/sample_hours.hpp"

#include <isobar/core/error.hpp>

#include <utility>

namespace isobar {

int64_t last_known_day(int64_t lead_hours) { return lead_hours - 24 * ((lead_hours + 23) / 24); }

SampleOptions with_training_hours(SampleOptions options, const Experiment& experiment,
                                  int64_t steps) {
  options.target_hours.clear();
  for (int64_t step = 1; step <= steps; ++step) {
    options.target_hours.push_back(step * experiment.step_hours);
  }
  return options;
}

SampleOptions with_scoring_hours(SampleOptions options, const Experiment& experiment,
                                 int64_t lead_hours) {
  options = with_training_hours(std::move(options), experiment, lead_hours / experiment.step_hours);
  options.reference_hours.clear();
  for (const int64_t lead : options.target_hours) {
    options.reference_hours.push_back(last_known_day(lead));
  }
  return options;
}

SampleOptions with_lead_hours(SampleOptions options, const Experiment& experiment,
                              int64_t lead_hours) {
  options = with_scoring_hours(std::move(options), experiment, lead_hours);
  options.period_hours = {lead_hours};
  options.reference_hours = {last_known_day(lead_hours)};
  return options;
}

std::shared_ptr<const SampleSet> make_samples(const std::shared_ptr<const Dataset>& dataset,
                                              const Normalizer& normalizer, SampleOptions options,
                                              const Period& period, const std::string& key) {
  const auto make = [&] {
    return std::make_shared<const SampleSet>(dataset, normalizer, options, period);
  };
  try {
    try {
      return make();
    } catch (const DataError&) {
      options.reference_hours.clear();
      return make();
    }
  } catch (const DataError& error) {
    throw DataError(key + ": " + error.what());
  }
}

}  // namespace isobar
