// SPDX-License-Identifier: Apache-2.0
// `isobar evaluate`, on every rank: a checkpoint's own experiment with the user's changes, its
// scores against the analysis and the climatology. What reads runs in run_agreed(), so that the
// ranks stay in step; the evaluation's own collectives are outside of it.
#include <isobar/weather/checkpoint_scores.hpp>

#include "weather/evaluate_checks.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/graph/spectrum.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/sample_maps.hpp>
#include <isobar/train/sharded_part.hpp>
#include <isobar/train/weights.hpp>
#include <isobar/weather/training_run.hpp>
#include <isobar/weather/weather_setup.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;

/// The checkpoint that a run's record calls its best, or the path itself if it is a checkpoint.
fs::path find_checkpoint(const fs::path& path) {
  if (fs::exists(path / "manifest.json")) return path;
  std::ifstream file(path / "record.json");
  const auto record = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  for (const std::string section : {"refit", "training"}) {
    if (record.is_object() && record.contains(section)) {
      return path / record[section].value("best_checkpoint", std::string{});
    }
  }
  if (const auto latest = find_latest(path / "checkpoints")) return *latest;
  throw DataError(detail::join("evaluate: '", path.string(),
                               "' is neither a checkpoint nor a run's folder with one"));
}

/// What is scored, and what is to be said of it.
struct Scored {
  fs::path checkpoint;
  TrainedRun run;
  std::vector<std::string> warnings;
};

/// The experiment of a checkpoint, with what the user changes of it.
Experiment read_scored(const CheckpointScoring& scoring, Scored& scored) {
  scored.checkpoint = find_checkpoint(scoring.path);
  const auto& checkpoint = scored.checkpoint;
  const auto loaded = load_checkpoint(checkpoint, {});
  const auto text = loaded.metadata.find("experiment");
  if (text == loaded.metadata.end()) {
    throw DataError(detail::join("evaluate: checkpoint '", checkpoint.string(),
                                 "' does not say which experiment it belongs to"));
  }
  const auto config = Config::parse(text->second, checkpoint.string(), scoring.overrides);
  scored.run = read_trained_run(text->second, loaded.metadata);
  scored.warnings = check_changes(scored.run, scoring, config);
  return read_experiment(config);
}

/// The mean of the training period, or nothing where none is wanted. Rank 0 shows progress.
std::optional<ClimatologySource> climatology_of(const CheckpointScoring& scoring,
                                                const WeatherSetup& setup,
                                                const Experiment& experiment,
                                                std::optional<Progress>& progress, int rank) {
  if (scoring.climatology == "none") return std::nullopt;
  return ClimatologySource{
      .period = setup.training_period(),
      .memory_bytes = experiment.data.cache_bytes,
      .progress = [&progress, rank](int64_t done, int64_t total) {
        if (!progress) {
          progress.emplace(ProgressOptions{
              .rank = rank, .label = "climatology", .total = total, .unit = "field"});
        }
        progress->update(done);
        if (done < total) return;
        progress->finish();
        progress.reset();
      }};
}

}  // namespace

CheckpointScores score_checkpoint(const CheckpointScoring& scoring,
                                  const std::function<void(const std::string&)>& warn) {
  Scored scored;
  auto started = start_experiment([&] { return read_scored(scoring, scored); });
  const auto& experiment = started.experiment;
  auto& world = started.world;
  CheckpointScores result;
  const auto say = [&](const std::vector<std::string>& lines) {
    for (const auto& line : lines) {
      if (warn) warn(line);
      result.warnings.push_back(line);
    }
  };
  const auto grid = make_process_grid(*world, experiment);
  say(scored.warnings);
  std::optional<WeatherSetup> setup;
  std::optional<Spectrum> spectrum;
  std::vector<std::shared_ptr<const SampleSet>> sets;
  run_agreed(*world, [&] { setup.emplace(experiment, grid, scored.checkpoint.string()); });
  say(setup->warnings());  // may be why the weights do not fit
  run_agreed(*world, [&] {
    const bool averaged = experiment.trainer.average_decay > 0;
    ModuleWeights weights(setup->task().module, averaged ? "average" : "model");
    ShardedPart own(weights, setup->task().rows, grid);
    load_checkpoint(scored.checkpoint, {&own});
    if (scoring.spectra) spectrum.emplace(setup->graph().data);
    if (scoring.rollout > 0) {
      sets = {setup->rollout_samples(scoring.split, scoring.rollout)};
    } else {
      sets = setup->scoring_samples(scoring.split);
    }
  });
  say(check_overlap(scored.run, scoring.split, sets));
  std::optional<Progress> progress;
  EvaluationOptions options{
      .area = setup->area(),
      .batch = experiment.trainer.batch,
      .device = setup->device(),
      .climatology = climatology_of(scoring, *setup, experiment, progress, world->rank())};
  if (spectrum) {
    options.power = [&](const at::Tensor& fields) { return spectrum->power(fields); };
  }
  result.found = scoring.rollout > 0 ? evaluate_every_lead(setup->task(), sets.at(0), grid, options)
                                     : evaluate_last_leads(setup->task(), sets, grid, options);
  if (!scoring.maps.empty()) {
    run_agreed(*world, [&] {
      const auto maps = last_sample_maps(setup->task(), sets, grid, setup->device());
      if (world->rank() != 0) return;
      write_maps(scoring.maps, scoring.split, sets.at(0)->dataset(), maps);
    });
  }
  run_agreed(*world, [&] { say(check_scores(result.found.scores, "data." + scoring.split)); });
  result.world = std::move(world);
  return result;
}

}  // namespace isobar
