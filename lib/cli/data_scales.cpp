// SPDX-License-Identifier: Apache-2.0
#include "cli/data_scales.hpp"

#include <ATen/ATen.h>

#include <iterator>

namespace isobar {
namespace {

std::map<std::string, Normalization> methods(const Experiment& experiment) {
  std::map<std::string, Normalization> result;
  for (const auto& [name, method] : experiment.normalization) {
    result[name] = parse_normalization(method);
  }
  return result;
}

}  // namespace

void DataScales::take(const Experiment& experiment, const std::vector<ScanStatistics>& statistics) {
  std::vector<VariableStatistics> values;
  auto change = at::zeros({std::ssize(statistics)}, at::kDouble);
  for (size_t v = 0; v < statistics.size(); ++v) {
    values.push_back(statistics[v].values);
    change[static_cast<int64_t>(v)] = statistics[v].change_stdev;
  }
  normalizer_ = Normalizer(variables_, values, methods(experiment)).tensors();
  tendency_ = (change * normalizer_.at("mul").abs().to(at::kDouble)).to(at::kFloat);
}

void DataScales::save(StateDict& state) const {
  for (const auto& [key, tensor] : normalizer_) state.put("normalizer." + key, tensor);
  state.put("tendency", tendency_);
}

void DataScales::load(const StateDict& state, int) {
  std::map<std::string, at::Tensor> normalizer{{"mul", state.tensor("normalizer.mul")},
                                               {"add", state.tensor("normalizer.add")}};
  Normalizer::from_tensors(variables_, normalizer);
  tendency_ = state.tensor("tendency");
  normalizer_ = std::move(normalizer);
}

}  // namespace isobar
