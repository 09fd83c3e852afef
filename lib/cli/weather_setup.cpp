// SPDX-License-Identifier: Apache-2.0
#include "cli/weather_setup.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>
#include <fmt/format.h>

#include <algorithm>

namespace isobar {
namespace {

/// A pass over a long training period would cost as much as training on it.
constexpr int64_t kTendencySamples = 1000;

Grid make_grid(const Experiment& experiment, const Dataset& dataset) {
  if (experiment.grid == "file") {
    return make_latlon_grid(dataset.latitudes(), dataset.longitudes());
  }
  auto grid = make_gaussian_grid(experiment.grid);
  const auto points =
      static_cast<int64_t>(dataset.latitudes().size() * dataset.longitudes().size());
  ISOBAR_CHECK(grid.size() == points, "graph.grid: ", experiment.grid, " has ", grid.size(),
               " points, the data have ", points, "; 'grid: file' takes the data's own");
  return grid;
}

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
  auto squares = sum.clone();
  int64_t count = 0;
  for (int64_t i = 0; i < samples.size(); i += stride, ++count) {
    const auto batch = samples.get({i});
    const auto change = (batch.target - batch.state).to(at::kDouble).flatten(0, 2);
    sum += change.mean(0);
    squares += change.square().mean(0);
  }
  const auto mean = sum / static_cast<double>(count);
  tendency_ = (squares / static_cast<double>(count) - mean.square()).sqrt().to(at::kFloat);
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

WeatherSetup::WeatherSetup(const Experiment& experiment, const std::string& checkpoint)
    : experiment_(experiment),
      device_(rank_device(experiment.comm.device)),
      dataset_(std::make_shared<const Dataset>(experiment.data)),
      scales_(dataset_->variables()) {
  if (checkpoint.empty()) {
    scales_.measure(experiment_, dataset_);
  } else {
    load_checkpoint(checkpoint, {&scales_});
  }
  graph_ = build_graph(make_grid(experiment_, *dataset_), experiment_.graph);
  build_network();
}

void WeatherSetup::build_network() {
  const auto variables = static_cast<int64_t>(experiment_.data.variables.size());
  auto weights = at::ones({variables});
  for (int64_t p = 0; p < variables; ++p) {
    const auto found = experiment_.variable_weights.find(experiment_.data.variables[p]);
    if (found != experiment_.variable_weights.end()) weights[p] = found->second;
  }
  WeatherTaskOptions options{
      .input_hours = experiment_.input_hours,
      .step_hours = experiment_.step_hours,
      .input_forcings = {},
      .forcings = static_cast<int64_t>(experiment_.forcings.size()),
      .tendency = experiment_.scale_by_tendency ? scales_.tendency() : at::ones({variables}),
      .weights = weights,
      .area = graph_.data.area};
  for (const auto& name : experiment_.input_forcings) {
    const auto& all = experiment_.forcings;
    options.input_forcings.push_back(std::find(all.begin(), all.end(), name) - all.begin());
  }
  auto network = std::make_shared<WeatherGnn>(
      WeatherGnnOptions{.features_in = input_features(options, variables),
                        .features_out = variables,
                        .channels = experiment_.channels,
                        .layers = experiment_.layers,
                        .node_table = experiment_.node_table,
                        .edge_table = experiment_.edge_table,
                        .seed = experiment_.seed},
      graph_);
  network->to(device_);
  task_ = make_weather_task(network, options);
}

Period WeatherSetup::period(const PeriodText& text) const {
  return parse_period(text.begin, text.end, dataset_->calendar());
}

std::shared_ptr<const SampleSet> WeatherSetup::training_samples() const {
  const SampleOptions options{.input_hours = experiment_.input_hours,
                              .target_hours = {experiment_.step_hours},
                              .reference_hours = {},
                              .forcings = experiment_.forcings};
  const auto normalizer = scales_.normalizer();
  const auto train = period(experiment_.train);
  if (experiment_.validation.begin.empty()) {
    return std::make_shared<const SampleSet>(dataset_, normalizer, options, train);
  }
  const auto split = make_split(dataset_, normalizer, options,
                                {train, period(experiment_.validation), period(experiment_.test)});
  return std::make_shared<const SampleSet>(split.train);
}

std::vector<std::shared_ptr<const SampleSet>> WeatherSetup::scoring_samples(
    const std::string& split) const {
  const bool test = split == "test";
  std::vector<std::shared_ptr<const SampleSet>> sets;
  for (const int64_t lead :
       test ? experiment_.test_lead_hours : experiment_.validation_lead_hours) {
    sets.push_back(samples_to(test ? experiment_.test : experiment_.validation, lead));
  }
  return sets;
}

/// A forecast for a lead time goes through every step before it.
std::shared_ptr<const SampleSet> WeatherSetup::samples_to(const PeriodText& text,
                                                          int64_t lead_hours) const {
  SampleOptions options{.input_hours = experiment_.input_hours,
                        .target_hours = {},
                        .reference_hours = {},
                        .forcings = experiment_.forcings};
  for (int64_t hour = experiment_.step_hours; hour <= lead_hours; hour += experiment_.step_hours) {
    options.target_hours.push_back(hour);
    options.reference_hours.push_back(hour - 24);
  }
  return std::make_shared<const SampleSet>(dataset_, scales_.normalizer(), options, period(text));
}

std::string WeatherSetup::summary() const {
  int64_t parameters = 0;
  for (const auto& parameter : task_.module->parameters()) parameters += parameter.numel();
  return fmt::format(
      "{}: {} points, {} hidden nodes, {} + {} + {} edges (encoder, processor, decoder), "
      "{} parameters",
      graph_.data.name, graph_.data_nodes(), graph_.hidden_nodes(), graph_.encoder.size(),
      graph_.processor.size(), graph_.decoder.size(), parameters);
}

}  // namespace isobar
