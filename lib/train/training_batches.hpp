// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/loader.hpp>
#include <isobar/train/trainer.hpp>

#include <memory>

namespace isobar {

/// This rank's batches of all backward passes of a run, epoch after epoch. Throws UsageError
/// where a step takes more samples than there are, or forecasts reach further than they.
Batches batches_of_run(const SampleSet& samples, const TrainerOptions& options,
                       const ProcessGrid& grid);

/// Makes these batches, one after another, each with the target hours that its step needs.
BatchSource batch_source(std::shared_ptr<const SampleSet> samples, const TrainerOptions& options);

}  // namespace isobar
