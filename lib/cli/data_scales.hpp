// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/experiment.hpp"

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

/// What a model needs to know of the data that it was trained on: the
/// normalisation, and the scale of what it forecasts. A part of every
/// checkpoint, so that a forecast never depends on statistics taken anew.
class DataScales final : public Stateful {
 public:
  explicit DataScales(std::vector<std::string> variables) : variables_(std::move(variables)) {}

  /// Takes them from the training period's statistics, by variable.
  void take(const Experiment& experiment, const std::vector<ScanStatistics>& statistics);

  Normalizer normalizer() const { return Normalizer::from_tensors(variables_, normalizer_); }

  /// By variable of the data set: the standard deviation of the change over a step, in normalised
  /// units.
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

}  // namespace isobar
