// SPDX-License-Identifier: Apache-2.0
// Made by every rank for one fit or one evaluation, inside run_agreed(): nothing here communicates
// but what looks through the data first. Of the graph, the points and the network's tables a rank
// keeps what it owns; sample sets, area and task agree on these rows.
#include <isobar/weather/weather_setup.hpp>

#include "weather/sample_hours.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <isobar/train/checkpoint.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace isobar {

ProcessGrid make_process_grid(Communicator& world, const Experiment& experiment) {
  ISOBAR_CHECK(world.size() % experiment.model_ranks == 0, "model.ranks: ", world.size(),
               world.size() == 1 ? " rank does" : " ranks do", " not divide into models of ",
               experiment.model_ranks, "; start a multiple of it, or set model.ranks=1");
  return {world, experiment.model_ranks};
}

namespace {

DataScales saved_scales(const Dataset& dataset, const std::string& path,
                        const std::string& checkpoint) {
  DataScales scales(dataset.variables());
  load_checkpoint(checkpoint, {&scales});
  scales.compare(dataset, path);  // refuses what it refuses before a graph is built
  return scales;
}

}  // namespace

WeatherSetup::WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
                           std::shared_ptr<const Dataset> dataset, DataScales scales)
    : experiment_(experiment),
      grid_(grid),
      device_(rank_device(experiment.comm.device)),
      dataset_(std::move(dataset)),
      scales_(std::move(scales)) {
  auto made = make_graph(experiment_, *dataset_);
  graph_ = std::move(made.graph);
  graph_warning_ = std::move(made.warning);
  build_network();
}

WeatherSetup::WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
                           const WeatherData& data)
    : WeatherSetup(experiment, grid, data.dataset(), data.scales(experiment)) {}

WeatherSetup::WeatherSetup(const Experiment& experiment, const ProcessGrid& grid)
    : WeatherSetup(experiment, grid, WeatherData(experiment, grid)) {}

WeatherSetup::WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
                           const std::string& checkpoint)
    : WeatherSetup(experiment, grid, std::make_shared<const Dataset>(experiment.data), checkpoint) {
}

WeatherSetup::WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
                           const std::shared_ptr<const Dataset>& dataset,
                           const std::string& checkpoint)
    : WeatherSetup(experiment, grid, dataset,
                   saved_scales(*dataset, experiment.data.paths.front(), checkpoint)) {
  differences_ = scales_.compare(*dataset, experiment.data.paths.front());
}

std::vector<std::string> WeatherSetup::graph_warnings() const {
  std::vector<std::string> lines;
  if (!graph_warning_.empty()) lines.push_back(graph_warning_);
  if (graph_.uncovered > 0) {
    lines.push_back(fmt::format("{} data nodes have no encoder edge: their values are not seen",
                                graph_.uncovered));
  }
  return lines;
}

std::vector<std::string> WeatherSetup::warnings() const {
  auto lines = dataset_->warnings();
  lines.insert(lines.end(), differences_.begin(), differences_.end());
  for (auto& line : graph_warnings()) lines.push_back(std::move(line));
  return lines;
}

/// The one place that knows how a network and its points are shared over the ranks of a model: it
/// sets the rows that this rank owns, and the task's reductions and rows.
void WeatherSetup::build_network() {
  area_ = graph_.data.area;
  std::optional<GraphShard> shard;
  if (grid_.model().size() > 1) {
    shard = make_shard(
        graph_,
        make_partition(graph_, grid_.model().size(), parse_partition_method(experiment_.partition)),
        grid_.model().rank());
    rows_ = shard->data_rows;
    area_ = area_.index_select(0, rows_);
  }
  auto options = network_options(experiment_);
  if (experiment_.device_memory_bytes == 0) {
    options.device_memory_bytes = TensorMemory::capacity(device_);
  }
  const auto sizes = shard ? sizes_of(*shard) : sizes_of(graph_);
  const auto longest = plan_options(experiment_, experiment_.longest_rollout());
  if (experiment_.activations == "auto") {
    options = fit_memory(options, sizes, longest, experiment_.device_memory_bytes);
  }
  planned_ = {options, plan_memory(options, sizes, longest)};
  memory_.emplace(device_);
  const auto network = shard ? std::make_shared<WeatherGnn>(options, *shard, grid_.model())
                             : std::make_shared<WeatherGnn>(options, graph_);
  network->to(device_);
  task_ = make_weather_task(
      network, [network](const at::Tensor& x) { return network->forward(x); }, task_options());
  if (!shard) return;
  task_.reduction = [network](const std::string& name) {
    return network->owned_rows(name) ? Reduction::sharded : Reduction::partial;
  };
  task_.rows = [network](const std::string& name) -> std::optional<ShardedRows> {
    const auto owned = network->owned_rows(name);
    if (!owned) return std::nullopt;
    return ShardedRows{owned->rows, owned->total};
  };
}

WeatherTaskOptions WeatherSetup::task_options() const {
  const auto outputs = experiment_.outputs();
  const auto prognostic = static_cast<int64_t>(experiment_.prognostic.size());
  auto tendency = at::ones({static_cast<int64_t>(outputs.size())});
  if (experiment_.scale_by_tendency) {
    tendency.narrow(0, 0, prognostic).copy_(scales_.tendency().narrow(0, 0, prognostic));
  }
  auto weights = at::ones_like(tendency);
  for (size_t p = 0; p < outputs.size(); ++p) {
    weights[static_cast<int64_t>(p)] = experiment_.weight_of(outputs[p]);
    if (tendency[static_cast<int64_t>(p)].item<float>() > 0) continue;
    throw DataError("loss.scale_by_tendency: '" + outputs[p] +
                    "' does not change in a step of the training period; make it one of "
                    "data.forcing_variables, or set scale_by_tendency: false");
  }
  WeatherTaskOptions options{.input_hours = experiment_.input_hours,
                             .step_hours = experiment_.step_hours,
                             .prognostic = prognostic,
                             .diagnostic = static_cast<int64_t>(experiment_.diagnostic.size()),
                             .seen = experiment_.seen,
                             .tendency = tendency.to(device_),
                             .weights = weights.to(device_),
                             .area = area_.to(device_),
                             .mask_missing = experiment_.mask_missing};
  set_bounds(options);
  return options;
}

/// A bound in a variable's own units is one in normalised units; a scale that is negative makes the
/// lower one the upper.
void WeatherSetup::set_bounds(WeatherTaskOptions& options) const {
  if (experiment_.bounding.empty()) return;
  const auto outputs = experiment_.outputs();
  const auto scale = scales_.normalizer().tensors();
  options.lower = at::full({static_cast<int64_t>(outputs.size())}, -HUGE_VAL);
  options.upper = at::full_like(options.lower, HUGE_VAL);
  for (size_t p = 0; p < outputs.size(); ++p) {
    const auto found = experiment_.bounding.find(outputs[p]);
    if (found == experiment_.bounding.end()) continue;
    const auto v = static_cast<int64_t>(p);
    const double mul = scale.at("mul")[v].item<double>(), add = scale.at("add")[v].item<double>();
    const double a = found->second.lower * mul + add, b = found->second.upper * mul + add;
    options.lower[v] = std::min(a, b);
    options.upper[v] = std::max(a, b);
  }
  options.lower = options.lower.to(device_);
  options.upper = options.upper.to(device_);
}

SampleOptions WeatherSetup::sample_options() const {
  SampleOptions options{.input_hours = experiment_.input_hours,
                        .target_hours = {},
                        .reference_hours = {},
                        .forcings = experiment_.forcings,
                        .forcing_variables = experiment_.forcing_variables,
                        .rows = rows_};
  // The axes of data on a named grid only count.
  if (experiment_.grid != "file") {
    options.latitudes = graph_.data.latitude;
    options.longitudes = graph_.data.longitude;
  }
  return options;
}

Period WeatherSetup::period(const PeriodText& text) const {
  return parse_period(text, dataset_->calendar());
}

std::shared_ptr<const SampleSet> WeatherSetup::training_samples() const {
  return std::make_shared<const SampleSet>(
      dataset_, scales_.normalizer(),
      with_training_hours(sample_options(), experiment_, experiment_.longest_rollout()),
      period(experiment_.train));
}

std::vector<std::shared_ptr<const SampleSet>> WeatherSetup::scoring_samples(
    const std::string& split) const {
  const bool test = split == "test";
  std::vector<std::shared_ptr<const SampleSet>> sets;
  for (const int64_t lead :
       test ? experiment_.test_lead_hours : experiment_.validation_lead_hours) {
    sets.push_back(samples_to(split, with_lead_hours(sample_options(), experiment_, lead), lead));
  }
  return sets;
}

std::shared_ptr<const SampleSet> WeatherSetup::rollout_samples(const std::string& split,
                                                               int64_t steps) const {
  const int64_t last = steps * experiment_.step_hours;
  check_reachable("--rollout", last, experiment_);
  return samples_to(split, with_scoring_hours(sample_options(), experiment_, last), last);
}

Period WeatherSetup::training_period() const { return period(experiment_.train); }

std::shared_ptr<const SampleSet> WeatherSetup::samples_to(const std::string& split,
                                                          const SampleOptions& options,
                                                          int64_t lead_hours) const {
  const auto& text = split == "test" ? experiment_.test : experiment_.validation;
  return make_samples(dataset_, scales_.normalizer(), options, period(text),
                      fmt::format("{} at {} h", text.key, lead_hours));
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
