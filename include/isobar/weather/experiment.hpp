// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/make_compressor.hpp>
#include <isobar/weather/weather_task.hpp>

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/config.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <isobar/train/trainer.hpp>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// A text period of an experiment; the calendar is known once the file is open.
struct PeriodText {
  std::string key;  ///< such as "data.train"
  std::string begin;
  std::string end;
};

/// Throws UsageError that names the key.
Period parse_period(const PeriodText& text, Calendar calendar);

/// What a variable's values are kept within, in its own units.
struct Bounds {
  double lower = -std::numeric_limits<double>::infinity();
  double upper = std::numeric_limits<double>::infinity();
};

/// Weights by pressure: max(minimum, slope · hPa).
struct LevelWeights {
  double slope = 0;
  double minimum = 1;
};

/// The level in hPa of a variable on one, such as 850 of "t_850"; nothing for others.
std::optional<int64_t> pressure_level(const std::string& variable);

/// An experiment file, read and checked as far as that goes without its data.
/// docs/experiment.md describes the keys.
struct Experiment {
  std::string run_name;
  std::string run_folder;
  uint64_t seed = 0;
  CommunicatorOptions comm;

  DatasetOptions data;  ///< its variables are the three lists below, one after another
  std::vector<std::string> prognostic;         ///< seen and forecast
  std::vector<std::string> diagnostic;         ///< forecast
  std::vector<std::string> forcing_variables;  ///< seen
  std::map<std::string, std::string> normalization;
  std::vector<std::string> forcings;  ///< computed ones
  std::vector<int64_t> input_hours;
  int64_t step_hours = 6;
  std::vector<SeenHour> seen;  ///< by input hour, then at the target; forcings before variables
  PeriodText train, validation, test;  ///< validation is empty while refitting
  std::vector<int64_t> validation_lead_hours;
  std::vector<int64_t> test_lead_hours;

  std::string grid;  ///< "file", or the name of a reduced Gaussian grid
  GraphOptions graph;
  std::string area;         ///< what weighs data nodes: "grid" or "voronoi"
  std::string graph_cache;  ///< folder; empty for none
  std::string partition;    ///< of the grid over a model's ranks: "bands" or "bisection"

  int model_ranks = 1;  ///< ranks that share a model
  int64_t channels = 0;
  int64_t layers = 0;
  std::string activations;          ///< "keep", "recompute" or "auto"
  int64_t chunk_edges = 0;          ///< 0: chosen
  int64_t device_memory_bytes = 0;  ///< what "auto" has to fit into
  int64_t node_table = 0;
  int64_t edge_table = 0;
  std::map<std::string, Bounds> bounding;  ///< by variable that is forecast
  bool scale_by_tendency = true;
  bool mask_missing = false;
  std::map<std::string, double> variable_weights;
  LevelWeights level_weights;

  /// Of optimizer.warmup_steps as given; the trainer's are those of warmup_within().
  int64_t given_warmup_steps = 0;
  TrainerOptions trainer;  ///< without its compressor, which serves one reducer
  bool scale_by_replicas = false;
  c10::ScalarType precision = c10::ScalarType::Float;  ///< what the network computes in
  CompressionOptions compress;
  std::string start_step_from;  ///< what gave compress its start_step, for people
  bool refit = false;
  bool profile_detail = false;  ///< whether people are shown a step's collectives

  /// The variables that are forecast.
  std::vector<std::string> outputs() const;
  /// The weight of one of them in the loss.
  double weight_of(const std::string& variable) const;
  /// Steps of the longest forecast that the loss covers in training.
  int64_t longest_rollout() const;

  /// "section.key=value" lines, defaults included; ranks compare these.
  std::vector<std::string> lines;
  /// The same as YAML, for the record and the checkpoint.
  std::string yaml;
};

/// A warm-up of more steps than there are would never end: it is then a tenth of them.
int64_t warmup_within(int64_t warmup_steps, int64_t steps);

/// Throws UsageError, naming `key`, unless forecasts to `last_hour` can be fed back: each step
/// needs fields that were given or forecast.
void check_reachable(const std::string& key, int64_t last_hour, const Experiment& experiment);

/// Reads a configuration whole. Throws UsageError of one line that names file,
/// line and key.
Experiment read_experiment(const Config& config);

}  // namespace isobar
