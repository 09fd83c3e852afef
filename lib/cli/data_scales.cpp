// SPDX-License-Identifier: Apache-2.0
#include "cli/data_scales.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace isobar {
namespace {

/// A pass over a long training period would cost as much as training on it.
constexpr int64_t kTendencySamples = 1000;

std::map<std::string, Normalization> methods(const Experiment& experiment) {
  std::map<std::string, Normalization> result;
  for (const auto& [name, method] : experiment.normalization) {
    result[name] = parse_normalization(method);
  }
  return result;
}

}  // namespace

void DataScales::measure(const Experiment& experiment,
                         const std::shared_ptr<const Dataset>& dataset) {
  const auto train =
      parse_period(experiment.train.begin, experiment.train.end, dataset->calendar());
  const auto indices = indices_within(dataset->times(), train);
  const Normalizer normalizer(variables_, compute_statistics(*dataset, indices),
                              methods(experiment));
  normalizer_ = normalizer.tensors();

  const SampleSet samples(dataset, normalizer,
                          {.input_hours = {0}, .target_hours = {experiment.step_hours}}, train);
  const int64_t stride = std::max<int64_t>(1, samples.size() / kTendencySamples);
  auto sum = at::zeros({static_cast<int64_t>(variables_.size())}, at::kDouble);
  auto squares = sum.clone(), count = sum.clone();
  for (int64_t i = 0; i < samples.size(); i += stride) {
    const auto batch = samples.get({i});
    const auto change = (batch.target - batch.state).to(at::kDouble).flatten(0, 2);
    sum += change.nansum(0);
    squares += change.square().nansum(0);
    count += change.isnan().logical_not().sum(0);
  }
  const auto mean = sum / count;
  tendency_ = (squares / count - mean.square()).clamp_min(0).sqrt().to(at::kFloat);
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
