// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/train/climatology_groups.hpp>
#include <isobar/train/forecast_scores.hpp>
#include <isobar/train/forecast_spectra.hpp>
#include <isobar/train/run_folder.hpp>
#include <isobar/train/task.hpp>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

struct EvaluationOptions {
  at::Tensor area;    ///< [N]: of this rank's points; all points' sum to 1
  int64_t batch = 1;  ///< samples that are forecast together
  c10::Device device = c10::kCPU;
  std::optional<ClimatologySource> climatology = {};  ///< nothing: no anomaly correlation
  PowerOf power = nullptr;                            ///< null: no spectra
};

/// By lead time; `spectra` is empty without a power.
struct Evaluation {
  std::vector<LeadScore> scores;
  std::vector<LeadSpectra> spectra;
};

/// The scores of a task's forecasts: of all samples of a set at every target hour, or of those of
/// several sets each at its last one, compared with its last reference.
/// Samples are shared over the data-parallel group, the points of each over the model-parallel
/// group. With a climatology, samples are scored in the groups of group_by_climatology(), and each
/// group's is computed before it is scored and dropped afterwards. Where memory makes several
/// groups, a sample is forecast for each that a target of it is in. Collective over the world;
/// blocks. What one rank throws in reading or forecasting, every rank throws.
Evaluation evaluate_every_lead(const Task& task, std::shared_ptr<const SampleSet> samples,
                               const ProcessGrid& grid, const EvaluationOptions& options);
Evaluation evaluate_last_leads(const Task& task,
                               const std::vector<std::shared_ptr<const SampleSet>>& sets,
                               const ProcessGrid& grid, const EvaluationOptions& options);

/// The scores of a task's forecasts: for each of `sets` over all its samples, at
/// its last target hour. One set a lead time, so that each lead time is scored
/// on every target time of its period. Samples are shared over the
/// data-parallel group, the points of each over the model-parallel group; `area` is
/// [N], of this rank's points. Collective over the world; blocks.
std::vector<LeadScore> score_samples(const Task& task,
                                     const std::vector<std::shared_ptr<const SampleSet>>& sets,
                                     const at::Tensor& area, const ProcessGrid& grid, int64_t batch,
                                     c10::Device device);

/// Writes one "validation" event a lead time, the longest first.
void write_scores(RunFolder& run, const std::string& split, int64_t step,
                  const std::vector<LeadScore>& scores);

}  // namespace isobar
