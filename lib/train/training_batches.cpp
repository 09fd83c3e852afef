// SPDX-License-Identifier: Apache-2.0
#include "train/training_batches.hpp"

#include <isobar/core/error.hpp>
#include <isobar/train/task.hpp>

#include <utility>

namespace isobar {

SamplerOptions sampler_options(const TrainerOptions& options, const ProcessGrid& grid) {
  return {.batch = options.batch,
          .rank = grid.data().rank(),
          .size = grid.data().size(),
          .seed = options.seed,
          .policy = options.sampler,
          .order = SampleOrder::shuffled};
}

Batches batches_of_run(const SampleSet& samples, const TrainerOptions& options,
                       const ProcessGrid& grid) {
  if (options.rollout) {
    const auto hours = static_cast<int64_t>(samples.options().target_hours.size());
    const auto longest = options.rollout->at(options.steps - 1);
    ISOBAR_CHECK(longest <= hours, "train: forecasts grow to ", longest,
                 " steps, but the samples have ", hours, " target hours");
  }
  const Sampler sampler(samples.size(), sampler_options(options, grid));
  const int64_t passes = options.steps * options.accumulate;
  Batches all;
  for (int64_t epoch = 0; static_cast<int64_t>(all.size()) < passes; ++epoch) {
    for (auto& batch : sampler.batches(epoch)) all.push_back(std::move(batch));
  }
  all.resize(passes);
  return all;
}

BatchSource batch_source(std::shared_ptr<const SampleSet> samples, const TrainerOptions& options) {
  if (!options.rollout) {
    return [samples = std::move(samples),
            device = options.device](const std::vector<int64_t>& indices) {
      return pinned(samples->get(indices), device);
    };
  }
  return [samples = std::move(samples), device = options.device, rollout = *options.rollout,
          accumulate = options.accumulate,
          pass = int64_t{0}](const std::vector<int64_t>& indices) mutable {
    return pinned(samples->get(indices, rollout.at(pass++ / accumulate)), device);
  };
}
}  // namespace isobar
