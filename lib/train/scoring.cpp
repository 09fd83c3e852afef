// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/agreement.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <optional>

namespace isobar {
namespace {

/// The last target hour of a batch and its forecast alone.
void keep_last(Batch& batch, at::Tensor& forecast) {
  const int64_t last = forecast.size(1) - 1;
  forecast = forecast.narrow(1, last, 1);
  batch.target = batch.target.narrow(1, last, 1);
  if (batch.reference.defined()) batch.reference = batch.reference.narrow(1, last, 1);
}

SpectraOptions spectra_options(const SampleSet& samples, const std::vector<int64_t>& leads,
                               const PowerOf& power) {
  return {.variables = samples.variables(),
          .unit = samples.unit(),
          .lead_hours = leads,
          .rows = samples.options().rows,
          .points = samples.dataset().point_latitudes().size(0),
          .power = power};
}

/// Scores the target hours from number `first` on, which is 0 or that of the last. A rank that
/// cannot read or forecast its samples makes every rank throw. The ranks of a model agree that all
/// of them have read before they forecast together.
Evaluation evaluate_from(size_t first, const Task& task, const SampleSet& samples,
                         const ProcessGrid& grid, const EvaluationOptions& options) {
  c10::NoGradGuard no_grad;
  const auto& hours = samples.options().target_hours;
  const std::vector<int64_t> leads(hours.begin() + static_cast<std::ptrdiff_t>(first), hours.end());
  ForecastScores scores({samples.variables(), samples.unit(), options.area, leads});
  std::optional<ForecastSpectra> spectra;
  if (options.power) spectra.emplace(spectra_options(samples, leads, options.power));
  const auto batches = every_sample(
      samples.size(),
      {.batch = options.batch, .rank = grid.data().rank(), .size = grid.data().size()});
  run_agreed(grid.world(), [&] {
    for (const auto& indices : batches) {
      Batch moved;
      run_agreed(grid.model(), [&] { moved = to_device(samples.get(indices), options.device); });
      auto forecast = task.forecast(moved);
      if (first > 0) keep_last(moved, forecast);
      const auto& climatology = options.climatology;
      scores.add(moved, forecast, climatology ? climatology->at(moved.times, leads) : at::Tensor());
      if (spectra) spectra->add(moved, forecast, grid.model());
    }
  });
  if (!spectra) return {scores.reduce(grid), {}};
  return {scores.reduce(grid), spectra->reduce(grid)};
}

}  // namespace

Evaluation evaluate_every_lead(const Task& task, const SampleSet& samples, const ProcessGrid& grid,
                               const EvaluationOptions& options) {
  return evaluate_from(0, task, samples, grid, options);
}

Evaluation evaluate_last_lead(const Task& task, const SampleSet& samples, const ProcessGrid& grid,
                              const EvaluationOptions& options) {
  return evaluate_from(samples.options().target_hours.size() - 1, task, samples, grid, options);
}

std::vector<LeadScore> score_samples(const Task& task,
                                     const std::vector<std::shared_ptr<const SampleSet>>& sets,
                                     const at::Tensor& area, const ProcessGrid& grid, int64_t batch,
                                     c10::Device device) {
  std::vector<LeadScore> result;
  for (const auto& samples : sets) {
    const EvaluationOptions options{.area = area, .batch = batch, .device = device};
    result.push_back(evaluate_last_lead(task, *samples, grid, options).scores.back());
  }
  return result;
}

void write_scores(RunFolder& folder, const std::string& split, int64_t step,
                  const std::vector<LeadScore>& scores) {
  for (auto lead = scores.rbegin(); lead != scores.rend(); ++lead) {
    nlohmann::json event{{"event", "validation"},
                         {"split", split},
                         {"step", step},
                         {"lead_hours", lead->lead_hours},
                         {"samples", lead->samples},
                         {"ratio_to_persistence", lead->ratio()}};
    for (const auto& score : lead->variables) {
      event["rmse"][score.variable] = score.rmse;
      event["bias"][score.variable] = score.bias;
      event["persistence"][score.variable] = score.persistence;
      event["previous_day"][score.variable] = score.previous_day;
    }
    folder.metric(event);
  }
}

}  // namespace isobar
