// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

namespace isobar {

// The keys that say how it is trained, and by whom.

/// run, seed, device and comm.
void read_run(const Config& config, Experiment& e);
void read_optimizer(const Config& config, Experiment& e);
/// train, profile and ddp; after the optimizer's warm-up is known.
void read_training(const Config& config, Experiment& e);
/// After the trainer's steps are known.
void read_compression(const Config& config, Experiment& e);

}  // namespace isobar
