// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

#include <isobar/data/samples.hpp>

#include <cstdint>
#include <memory>

namespace isobar {

/// Of a forecast for `lead_hours`: the hour, from its analysis, of the last field that is known
/// then and has the target's time of day, lead - 24 · ⌈lead / 24⌉.
int64_t last_known_day(int64_t lead_hours);

/// `options` with the target hours of a loss that covers `steps` forecast steps.
SampleOptions with_training_hours(SampleOptions options, const Experiment& experiment,
                                  int64_t steps);

/// `options` with the hours of a forecast to `lead_hours`, which goes through every step before it,
/// and for each a reference, see last_known_day(). All of them are to lie in the period.
SampleOptions with_scoring_hours(SampleOptions options, const Experiment& experiment,
                                 int64_t lead_hours);

/// The same of forecasts that are scored at `lead_hours` alone, which have one reference: it is the
/// one hour that has to lie in the period, so that every lead time is scored on the same target
/// times.
SampleOptions with_lead_hours(SampleOptions options, const Experiment& experiment,
                              int64_t lead_hours);

/// The samples of a period to score; without references where the data have no sample with them.
/// Throws as SampleSet does, naming `key`.
std::shared_ptr<const SampleSet> make_samples(const std::shared_ptr<const Dataset>& dataset,
                                              const Normalizer& normalizer, SampleOptions options,
                                              const Period& period, const std::string& key);

}  // namespace isobar
