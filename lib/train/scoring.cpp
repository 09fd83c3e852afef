// SPDX-License-Identifier: Apache-2.0
// Called on every rank, on the thread of the loop or of a command: validation, tests, evaluations.
//
// The ranks of a model have the same samples in the same order, and meet in each forecast and each
// spectrum; so they agree that all have read a batch before they forecast it. Replicas may have
// different numbers of batches, and meet only where a group of samples begins and ends and where
// sums are reduced: in between nothing is collective over them.
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

/// The last target hour of a batch, its forecast and its reference alone.
void keep_last(Batch& batch, at::Tensor& forecast) {
  const int64_t last = forecast.size(1) - 1;
  forecast = forecast.narrow(1, last, 1);
  batch.target = batch.target.narrow(1, last, 1);
  if (!batch.reference.defined()) return;
  batch.reference = batch.reference.narrow(1, batch.reference.size(1) - 1, 1);
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

/// Ranks of a model differ in their points, and are to have the same groups.
int64_t most_points(const SampleSet& samples, Communicator& model) {
  auto points = at::full({1}, samples.points(), at::kLong);
  model.allreduce(points, ReduceOp::maximum).wait();
  return points.item<int64_t>();
}

/// One of all samples where there is no climatology. Collective over the model where there is one.
std::vector<ClimatologyGroup> groups_of(const std::vector<ScoredSamples>& scored,
                                        const EvaluationOptions& options, const ProcessGrid& grid) {
  if (options.climatology) {
    auto source = *options.climatology;
    source.points = most_points(*scored.at(0).set, grid.model());
    return group_by_climatology(scored, source);
  }
  ClimatologyGroup all;
  for (const auto& [set, lead_hours] : scored) {
    ScoredSample sample{.position = 0, .leads = std::vector<int64_t>(lead_hours.size())};
    std::iota(sample.leads.begin(), sample.leads.end(), 0);
    auto& samples = all.samples.emplace_back();
    for (; sample.position < set->size(); ++sample.position) samples.push_back(sample);
  }
  return {all};
}

/// The climatologies of the groups, one after the other.
class Climatologies {
 public:
  Climatologies(const SampleSet& samples, const std::vector<ClimatologyGroup>& groups,
                const std::optional<ClimatologySource>& source, const ProcessGrid& grid)
      : samples_(samples), groups_(groups), source_(source), grid_(grid) {
    if (!source_ || !source_->progress) return;
    for (const auto& group : groups_) to_read_ += fields_of(group);
  }

  /// Of the next group; nothing where there is no climatology. Collective over the world where
  /// there is one.
  std::optional<Climatology> next() {
    if (!source_) return std::nullopt;
    const auto& group = groups_[next_++];
    ClimatologyOptions options{.period = source_->period, .times = group.times};
    if (source_->progress) {
      options.progress = [this, read = read_](int64_t done, int64_t) {
        source_->progress(read + done, to_read_);
      };
      read_ += fields_of(group);
    }
    return Climatology(samples_, options, grid_);
  }

 private:
  int64_t fields_of(const ClimatologyGroup& group) const {
    return grid_.model().size() *
           std::ssize(climatology_times(samples_.dataset(), source_->period, group.times));
  }

  const SampleSet& samples_;
  const std::vector<ClimatologyGroup>& groups_;
  const std::optional<ClimatologySource>& source_;
  const ProcessGrid& grid_;
  size_t next_ = 0;
  int64_t read_ = 0;
  int64_t to_read_ = 0;
};

/// [B, S]: which of the samples are scored at which of S lead times.
at::Tensor scored_of(const std::vector<ScoredSample>& samples, const std::vector<int64_t>& batch,
                     int64_t leads) {
  auto scored = at::zeros({std::ssize(batch), leads}, at::kBool);
  for (size_t b = 0; b < batch.size(); ++b) {
    for (const int64_t lead : samples[batch[b]].leads) {
      scored[static_cast<int64_t>(b)][lead].fill_(true);
    }
  }
  return scored;
}

/// Scores this rank's part of some samples of a set. The ranks of a model agree that all of them
/// have read before they forecast together: one that could not would leave the others waiting for
/// its halo. This is inside an agreement over the world (evaluate_all): it communicates over the
/// model alone.
void score(Scoring& scoring, const std::vector<ScoredSample>& samples, const Task& task,
           const std::optional<Climatology>& climatology, const ProcessGrid& grid,
           const EvaluationOptions& options) {
  const auto& leads = scoring.leads;
  for (const auto& batch : every_sample(
           std::ssize(samples),
           {.batch = options.batch, .rank = grid.data().rank(), .size = grid.data().size()})) {
    std::vector<int64_t> indices;
    for (const int64_t i : batch) indices.push_back(samples[i].position);
    Batch moved;
    run_agreed(grid.model(),
               [&] { moved = to_device(scoring.samples.get(indices), options.device); });
    auto forecast = task.forecast(moved);
    if (std::ssize(leads) < forecast.size(1)) keep_last(moved, forecast);
    const auto scored = scored_of(samples, batch, std::ssize(leads));
    const auto mean = climatology ? climatology->at(moved.times, leads, scored) : at::Tensor();
    scoring.scores.add(moved, forecast, mean, scored);
    if (scoring.spectra) scoring.spectra->add(moved, forecast, grid.model(), scored);
  }
}

/// A rank that cannot read or forecast its samples makes every rank throw.
Evaluation evaluate_all(const std::vector<ScoredSamples>& scored, const Task& task,
                        const ProcessGrid& grid, const EvaluationOptions& options) {
  c10::NoGradGuard no_grad;
  std::vector<Scoring> scorings;
  for (const auto& one : scored) scorings.emplace_back(one, options);
  const auto groups = groups_of(scored, options, grid);
  Climatologies climatologies(*scored.at(0).set, groups, options.climatology, grid);
  for (const auto& group : groups) {
    const auto climatology = climatologies.next();
    run_agreed(grid.world(), [&] {
      for (size_t s = 0; s < scorings.size(); ++s) {
        score(scorings[s], group.samples[s], task, climatology, grid, options);
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
