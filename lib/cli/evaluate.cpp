// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.hpp"
#include "cli/report.hpp"
#include "cli/weather_setup.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/graph/spectrum.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/train/sharded_part.hpp>
#include <isobar/train/weights.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>

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

Experiment experiment_of(const fs::path& checkpoint, const std::vector<std::string>& overrides) {
  const auto loaded = load_checkpoint(checkpoint, {});
  const auto text = loaded.metadata.find("experiment");
  if (text == loaded.metadata.end()) {
    throw DataError(detail::join("evaluate: checkpoint '", checkpoint.string(),
                                 "' does not say which experiment it belongs to"));
  }
  return read_experiment(Config::parse(text->second, checkpoint.string(), overrides));
}

/// What to score, read before there is a world to agree in: the experiment names the backend and
/// the device. What went wrong is kept until every rank can be told.
struct Scored {
  fs::path checkpoint;
  std::optional<Experiment> experiment;
  std::exception_ptr error;
};

Scored find_scored(const EvaluateArguments& arguments) {
  try {
    auto checkpoint = find_checkpoint(arguments.path);
    auto experiment = experiment_of(checkpoint, arguments.overrides);
    return {std::move(checkpoint), std::move(experiment), nullptr};
  } catch (const std::exception&) {
    return {{}, std::nullopt, std::current_exception()};
  }
}

nlohmann::json rows_of(const std::vector<LeadScore>& scores, const std::string& split) {
  auto rows = nlohmann::json::array();
  for (const auto& lead : scores) {
    for (const auto& s : lead.variables) {
      rows.push_back({{"split", split},
                      {"lead_hours", lead.lead_hours},
                      {"variable", s.variable},
                      {"samples", lead.samples},
                      {"rmse", s.rmse},
                      {"bias", s.bias},
                      {"acc", s.acc},
                      {"persistence", s.persistence},
                      {"previous_day", s.previous_day}});
    }
  }
  return rows;
}

/// The mean of the training period, or nothing where none is wanted. Rank 0 shows progress.
std::optional<ClimatologySource> climatology_of(const EvaluateArguments& arguments,
                                                const WeatherSetup& setup,
                                                const Experiment& experiment,
                                                std::optional<Progress>& progress, int rank) {
  if (arguments.climatology == "none") return std::nullopt;
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

nlohmann::json spectra_rows_of(const std::vector<LeadSpectra>& spectra, const std::string& split) {
  auto rows = nlohmann::json::array();
  for (const auto& lead : spectra) {
    for (const auto& s : lead.variables) {
      for (size_t k = 0; k < s.truth.size(); ++k) {
        rows.push_back({{"split", split},
                        {"lead_hours", lead.lead_hours},
                        {"variable", s.variable},
                        {"samples", s.samples},
                        {"wavenumber", k + 1},
                        {"forecast", s.forecast[k]},
                        {"truth", s.truth[k]},
                        {"ratio", s.forecast[k] / s.truth[k]}});
      }
    }
  }
  return rows;
}

void report(const Evaluation& found, const EvaluateArguments& arguments) {
  if (arguments.json != "-") {
    fmt::print("{}{}", scores_table(found.scores), spectra_table(found.spectra));
  }
  auto more = nlohmann::json::object();
  if (arguments.spectra) more["spectra"] = spectra_rows_of(found.spectra, arguments.split);
  write_report(arguments.json, "isobar.evaluate.1", arguments.command,
               rows_of(found.scores, arguments.split), more);
  std::fflush(stdout);
}

}  // namespace

int run_evaluate(const EvaluateArguments& arguments) {
  const auto scored = find_scored(arguments);
  const auto& checkpoint = scored.checkpoint;
  const auto& experiment = scored.experiment;
  const auto world = make_communicator(experiment ? experiment->comm : CommunicatorOptions{});
  run_agreed(*world, [&] {
    if (scored.error) std::rethrow_exception(scored.error);
  });
  require_equal(*world, "configuration", experiment->lines);
  const auto grid = make_process_grid(*world, *experiment);
  std::optional<WeatherSetup> setup;
  std::optional<Spectrum> spectrum;
  std::vector<std::shared_ptr<const SampleSet>> sets;
  run_agreed(*world, [&] {
    setup.emplace(*experiment, grid, checkpoint.string());
    const bool averaged = experiment->trainer.average_decay > 0;
    ModuleWeights weights(setup->task().module, averaged ? "average" : "model");
    ShardedPart own(weights, setup->task().rows, grid);
    load_checkpoint(checkpoint, {&own});
    if (arguments.spectra) spectrum.emplace(setup->graph().data);
    if (arguments.rollout > 0) {
      sets = {setup->rollout_samples(arguments.split, arguments.rollout)};
    } else {
      sets = setup->scoring_samples(arguments.split);
    }
  });
  std::optional<Progress> progress;
  EvaluationOptions options{
      .area = setup->area(),
      .batch = experiment->trainer.batch,
      .device = setup->device(),
      .climatology = climatology_of(arguments, *setup, *experiment, progress, world->rank())};
  if (spectrum) {
    options.power = [&](const at::Tensor& fields) { return spectrum->power(fields); };
  }
  const auto found = arguments.rollout > 0
                         ? evaluate_every_lead(setup->task(), sets.at(0), grid, options)
                         : evaluate_last_leads(setup->task(), sets, grid, options);
  run_agreed(*world, [&] {
    if (world->rank() == 0) report(found, arguments);
  });
  return 0;
}

}  // namespace isobar
