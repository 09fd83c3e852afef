// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/experiment.hpp"
#include "cli/weather_task.hpp"

#include <isobar/core/log.hpp>
#include <isobar/train/state.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// What a model needs to know of the data that it was trained on: the
/// normalisation, and the scale of what it forecasts. A part of every
/// checkpoint, so that a forecast never depends on statistics taken anew.
class DataScales final : public Stateful {
 public:
  explicit DataScales(std::vector<std::string> variables) : variables_(std::move(variables)) {}

  /// Takes them from the training period.
  void measure(const Experiment& experiment, const std::shared_ptr<const Dataset>& dataset);

  Normalizer normalizer() const { return Normalizer::from_tensors(variables_, normalizer_); }

  /// [P]: the standard deviation of the change over a step, in normalised units.
  const at::Tensor& tendency() const { return tendency_; }

  std::string name() const override { return "scales"; }
  int version() const override { return 1; }
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  std::vector<std::string> variables_;
  std::map<std::string, at::Tensor> normalizer_;
  at::Tensor tendency_;
};

/// An experiment made real: data, graph, network and what to do with them.
class WeatherSetup {
 public:
  /// Opens the data and builds graph and network, with initial weights from the
  /// experiment's seed. Takes the scales from the data, or, where `checkpoint`
  /// names a folder, from there. Communicates with nobody.
  WeatherSetup(const Experiment& experiment, const std::string& checkpoint = {});

  const Task& task() const noexcept { return task_; }
  c10::Device device() const noexcept { return device_; }
  const at::Tensor& area() const noexcept { return graph_.data.area; }
  const WeatherGraph& graph() const noexcept { return graph_; }
  const DataScales& scales() const noexcept { return scales_; }

  /// Throws UsageError where a target time belongs to two of the periods; an
  /// empty validation period is not looked at.
  std::shared_ptr<const SampleSet> training_samples() const;

  /// The samples of a split, "validation" or "test", one set a lead time of the
  /// experiment, with references 24 h before each target.
  std::vector<std::shared_ptr<const SampleSet>> scoring_samples(const std::string& split) const;

  /// One line about what was built.
  std::string summary() const;

 private:
  void build_network();
  Period period(const PeriodText& text) const;
  std::shared_ptr<const SampleSet> samples_to(const PeriodText& text, int64_t lead_hours) const;

  Experiment experiment_;
  c10::Device device_;
  std::shared_ptr<const Dataset> dataset_;
  DataScales scales_;
  WeatherGraph graph_;
  Task task_;
};

}  // namespace isobar
