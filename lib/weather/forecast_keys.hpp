// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

namespace isobar {

// The sections that say what is forecast from what; each relies on those before it.
void read_data(const Config& config, Experiment& e);
void read_lead_hours(const Config& config, Experiment& e);
void read_graph(const Config& config, Experiment& e);
void read_model(const Config& config, Experiment& e);
void read_loss(const Config& config, Experiment& e);
/// After the trainer's steps are known.
void read_rollout(const Config& config, Experiment& e);

}  // namespace isobar
