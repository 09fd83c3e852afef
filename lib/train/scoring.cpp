// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/agreement.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/train/climatology.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <iterator>
#include <numeric>
#include <optional>
#include <utility>

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

/// The samples of one set, and what is made of their forecasts.
struct Scoring {
  Scoring(const ScoredSamples& scored, const EvaluationOptions& options)
      : samples(*scored.set),
        leads(scored.lead_hours),
        scores({samples.variables(), samples.unit(), options.area, leads}) {
    if (options.power) spectra.emplace(spectra_options(samples, leads, options.power));
  }

  const SampleSet& samples;
  std::vector<int64_t> leads;
  ForecastScores scores;
  std::optional<ForecastSpectra> spectra;
};

/// One of all samples where there is no climatology.
std::vector<ClimatologyGroup> groups_of(const std::vector<ScoredSamples>& scored,
                                        const EvaluationOptions& options) {
  if (options.climatology) return group_by_climatology(scored, *options.climatology);
  ClimatologyGroup all;
  for (const auto& [set, lead_hours] : scored) {
    all.samples.emplace_back(set->size());
    std::iota(all.samples.back().begin(), all.samples.back().end(), 0);
  }
  return {all};
}

/// Of group number g. Collective over the world where there is one.
std::optional<Climatology> climatology_of(const SampleSet& samples,
                                          const std::vector<ClimatologyGroup>& groups, size_t g,
                                          const EvaluationOptions& options,
                                          const ProcessGrid& grid) {
  if (!options.climatology) return std::nullopt;
  const auto& progress = options.climatology->progress;
  ClimatologyOptions wanted{.period = options.climatology->period, .times = groups[g].times};
  if (progress) {
    wanted.progress = [&](int64_t done, int64_t total) {
      progress(static_cast<int64_t>(g) * total + done, std::ssize(groups) * total);
    };
  }
  return Climatology(samples, wanted, grid);
}

/// Scores this rank's part of a set's samples at the given positions. The ranks of a model agree
/// that all of them have read before they forecast together.
void score(Scoring& scoring, const std::vector<int64_t>& positions, const Task& task,
           const std::optional<Climatology>& climatology, const ProcessGrid& grid,
           const EvaluationOptions& options) {
  const auto& leads = scoring.leads;
  for (const auto& batch : every_sample(
           std::ssize(positions),
           {.batch = options.batch, .rank = grid.data().rank(), .size = grid.data().size()})) {
    std::vector<int64_t> indices;
    for (const int64_t i : batch) indices.push_back(positions[i]);
    Batch moved;
    run_agreed(grid.model(),
               [&] { moved = to_device(scoring.samples.get(indices), options.device); });
    auto forecast = task.forecast(moved);
    if (std::ssize(leads) < forecast.size(1)) keep_last(moved, forecast);
    scoring.scores.add(moved, forecast,
                       climatology ? climatology->at(moved.times, leads) : at::Tensor());
    if (scoring.spectra) scoring.spectra->add(moved, forecast, grid.model());
  }
}

/// A rank that cannot read or forecast its samples makes every rank throw.
Evaluation evaluate_all(const std::vector<ScoredSamples>& scored, const Task& task,
                        const ProcessGrid& grid, const EvaluationOptions& options) {
  c10::NoGradGuard no_grad;
  std::vector<Scoring> scorings;
  for (const auto& one : scored) scorings.emplace_back(one, options);
  const auto groups = groups_of(scored, options);
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto climatology = climatology_of(*scored.at(0).set, groups, g, options, grid);
    run_agreed(grid.world(), [&] {
      for (size_t s = 0; s < scorings.size(); ++s) {
        score(scorings[s], groups[g].samples[s], task, climatology, grid, options);
      }
    });
  }
  Evaluation all;
  for (const auto& scoring : scorings) {
    for (auto& lead : scoring.scores.reduce(grid)) all.scores.push_back(std::move(lead));
    if (!scoring.spectra) continue;
    for (auto& lead : scoring.spectra->reduce(grid)) all.spectra.push_back(std::move(lead));
  }
  return all;
}

}  // namespace

Evaluation evaluate_every_lead(const Task& task, std::shared_ptr<const SampleSet> samples,
                               const ProcessGrid& grid, const EvaluationOptions& options) {
  const auto leads = samples->options().target_hours;
  return evaluate_all({{std::move(samples), leads}}, task, grid, options);
}

Evaluation evaluate_last_leads(const Task& task,
                               const std::vector<std::shared_ptr<const SampleSet>>& sets,
                               const ProcessGrid& grid, const EvaluationOptions& options) {
  std::vector<ScoredSamples> scored;
  for (const auto& samples : sets) {
    scored.push_back({samples, {samples->options().target_hours.back()}});
  }
  return evaluate_all(scored, task, grid, options);
}

std::vector<LeadScore> score_samples(const Task& task,
                                     const std::vector<std::shared_ptr<const SampleSet>>& sets,
                                     const at::Tensor& area, const ProcessGrid& grid, int64_t batch,
                                     c10::Device device) {
  const EvaluationOptions options{.area = area, .batch = batch, .device = device};
  return evaluate_last_leads(task, sets, grid, options).scores;
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
