// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/core/record.hpp>
#include <isobar/train/forecast_scores.hpp>
#include <isobar/train/run_folder.hpp>
#include <isobar/train/trainer.hpp>
#include <isobar/weather/experiment.hpp>
#include <isobar/weather/weather_data.hpp>
#include <isobar/weather/weather_setup.hpp>
#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// An experiment, and the ranks that run it.
struct StartedExperiment {
  Experiment experiment;
  std::unique_ptr<Communicator> world;
};

/// Reads an experiment on every rank, and starts their world over the backend that it names. What
/// `read` throws on one rank, every rank throws, as UsageError where ranks have read different
/// ones. Collective over the ranks of this launch; blocks.
StartedExperiment start_experiment(const std::function<Experiment()>& read);

/// The same from a YAML file, with "section.key=value" texts over its values.
StartedExperiment start_experiment(const std::string& path,
                                   const std::vector<std::string>& overrides = {});

/// What a training run came to.
struct TrainingResult {
  TrainingSummary summary;        ///< of the last fit: the refit, where train.refit wants one
  std::vector<LeadScore> scores;  ///< of its best checkpoint on the test period; on every rank
};

/// The training of an experiment, as `isobar train` does it: looks through the data, builds graph
/// and network, fits, fits again with the validation period where train.refit asks for it, and
/// scores the best checkpoint on the test period, which plays no part before. Log, metrics, record
/// and checkpoints lie in the run's folder, `<run.folder>/<run.name>/`.
///
///     auto [experiment, world] = start_experiment("experiment.yaml", {"train.steps=100"});
///     const auto result = TrainingRun(*world, experiment).run();
class TrainingRun {
 public:
  /// Makes the run's folder. `world` must outlive this; `command`, program and arguments, goes into
  /// the record. Collective; blocks. Throws UsageError on every rank where model.ranks does not
  /// divide the ranks, or another run of that name goes on.
  TrainingRun(Communicator& world, const Experiment& experiment,
              std::vector<std::string> command = {});

  /// Adds a section to record.json, on rank 0 and before run(). Throws UsageError where provenance
  /// has that name.
  void record(const std::string& section, const nlohmann::json& value);

  /// Once. Collective; blocks until the run has ended; rank 0 shows progress. Throws what
  /// WeatherData, WeatherSetup and Trainer throw; where the other ranks cannot know the error, the
  /// world has failed with it.
  TrainingResult run();

  const RunFolder& folder() const noexcept { return folder_; }

 private:
  void scale_learning_rate();
  void look_through();
  void shorten_warmup();
  void build();
  void compress(const std::shared_ptr<const SampleSet>& samples);
  void choose_method(const std::shared_ptr<const SampleSet>& samples);
  TrainingSummary fit(bool validate, const std::string& section);
  TrainingSummary refit(const TrainingSummary& chosen);
  std::vector<LeadScore> test(const TrainingSummary& summary);
  void record_memory();
  void log_saving(const ReducerCounters& counters);
  void write_record();

  Communicator& world_;
  Experiment experiment_;
  ProcessGrid grid_;
  RunFolder folder_;
  RunRecord record_;
  std::optional<WeatherData> data_;
  std::optional<WeatherSetup> setup_;
};

}  // namespace isobar
