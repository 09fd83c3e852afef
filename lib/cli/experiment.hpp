// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/compression.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/config.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <isobar/train/trainer.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace isobar {

/// A text period of an experiment; the calendar is known once the file is open.
struct PeriodText {
  std::string begin;
  std::string end;
};

/// An experiment file, read and checked as far as that goes without its data.
/// docs/experiment.md describes the keys.
struct Experiment {
  std::string run_name;
  std::string run_folder;
  uint64_t seed = 0;
  CommunicatorOptions comm;

  DatasetOptions data;
  std::map<std::string, std::string> normalization;
  std::vector<std::string> forcings;
  std::vector<std::string> input_forcings;
  std::vector<int64_t> input_hours;
  int64_t step_hours = 6;
  PeriodText train, validation, test;  ///< validation is empty while refitting
  std::vector<int64_t> validation_lead_hours;
  std::vector<int64_t> test_lead_hours;

  std::string grid;  ///< "file", or the name of a reduced Gaussian grid
  GraphOptions graph;

  int64_t channels = 0;
  int64_t layers = 0;
  int64_t node_table = 0;
  int64_t edge_table = 0;
  bool scale_by_tendency = true;
  std::map<std::string, double> variable_weights;

  TrainerOptions trainer;  ///< without its compressor, which serves one reducer
  CompressionOptions compress;
  std::string start_step_from;  ///< what gave compress its start_step, for people
  bool refit = false;

  /// "section.key=value" lines, defaults included; ranks compare these.
  std::vector<std::string> lines;
  /// The same as YAML, for the record and the checkpoint.
  std::string yaml;
};

/// Reads a configuration whole. Throws UsageError of one line that names file,
/// line and key.
Experiment read_experiment(const Config& config);

}  // namespace isobar
