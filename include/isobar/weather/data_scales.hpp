// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

#include <isobar/data/dataset.hpp>
#include <isobar/data/field_scan.hpp>
#include <isobar/data/normalizer.hpp>
#include <isobar/train/state.hpp>
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

/// What tells whether other data can be looked at by a model: the files' units, by variable, and
/// a line about the grid.
struct DataOrigin {
  std::vector<std::string> units = {};
  std::string grid = {};
};

DataOrigin origin_of(const Dataset& dataset);

/// What a model needs to know of the data that it was trained on: the
/// normalisation, the scale of what it forecasts, and where these come from. A part of every
/// checkpoint, so that a forecast never depends on statistics taken anew.
class DataScales final : public Stateful {
 public:
  explicit DataScales(std::vector<std::string> variables, DataOrigin origin = {})
      : variables_(std::move(variables)), origin_(std::move(origin)) {}

  /// Takes them from the training period's statistics, by variable.
  void take(const Experiment& experiment, const std::vector<ScanStatistics>& statistics);

  Normalizer normalizer() const { return Normalizer::from_tensors(variables_, normalizer_); }

  /// By variable of the data set: the standard deviation of the change over a step, in normalised
  /// units.
  const at::Tensor& tendency() const { return tendency_; }

  /// Of the data that the scales were taken from; empty in checkpoints that do not say.
  const DataOrigin& origin() const { return origin_; }

  /// Throws DataError where a variable of data of these variables is in another unit than the
  /// scales are, naming it; gives a line each for what else differs.
  std::vector<std::string> compare(const Dataset& dataset, const std::string& path) const;

  std::string name() const override { return "scales"; }
  int version() const override { return 2; }  // since 2 with units and grid
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  std::vector<std::string> variables_;
  DataOrigin origin_;
  std::map<std::string, at::Tensor> normalizer_;
  at::Tensor tendency_;
};

}  // namespace isobar
