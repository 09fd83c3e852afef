// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/agreement.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <nlohmann/json.hpp>

namespace isobar {
namespace {

/// Scores one set; a rank that cannot read or forecast its samples makes every rank throw. The
/// ranks of a model agree that all of them have read before they forecast together.
LeadScore score_last_lead(const Task& task, const SampleSet& samples, const at::Tensor& area,
                          const ProcessGrid& grid, int64_t batch, c10::Device device) {
  c10::NoGradGuard no_grad;
  ForecastScores scores(
      {samples.variables(), samples.unit(), area, samples.options().target_hours});
  const auto batches = every_sample(
      samples.size(), {.batch = batch, .rank = grid.data().rank(), .size = grid.data().size()});
  run_agreed(grid.world(), [&] {
    for (const auto& indices : batches) {
      Batch moved;
      run_agreed(grid.model(), [&] { moved = to_device(samples.get(indices), device); });
      scores.add(moved, task.forecast(moved));
    }
  });
  return scores.reduce(grid).back();
}

}  // namespace

std::vector<LeadScore> score_samples(const Task& task,
                                     const std::vector<std::shared_ptr<const SampleSet>>& sets,
                                     const at::Tensor& area, const ProcessGrid& grid, int64_t batch,
                                     c10::Device device) {
  std::vector<LeadScore> result;
  for (const auto& samples : sets) {
    result.push_back(score_last_lead(task, *samples, area, grid, batch, device));
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
