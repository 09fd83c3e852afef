// SPDX-License-Identifier: Apache-2.0
// An experiment's sections as the options of network, graph and memory plan, for `isobar train`,
// `plan` and `init` alike, so that what is planned is what is built. Sizes are estimated where
// building the graph first would take the memory that is asked about.
#include <isobar/weather/network_plan.hpp>

#include <isobar/weather/file_grid.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/text.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <isobar/graph/voronoi.hpp>
#include <isobar/launch/environment.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace isobar {
namespace {

/// Of a GPU of which nothing is said.
constexpr int64_t kDeviceMemoryBytes = int64_t{40} << 30;

/// An icosphere of this level has 655,362 nodes and is made whole, also for a region.
constexpr int64_t kLongLevel = 8;

/// Hidden nodes to a data point, two levels finer than one.
constexpr int64_t kFarTooFine = 16;

int64_t device_memory(const Experiment& experiment) {
  if (experiment.comm.device == "cpu") return 0;
  return experiment.device_memory_bytes > 0 ? experiment.device_memory_bytes : kDeviceMemoryBytes;
}

/// Edges into hidden nodes: those within cutoff_factor of the largest distance between neighbours,
/// which an icosphere has at 1.2 times the mean one.
int64_t encoder_edges(const Grid& grid, const GraphOptions& options, double hidden, double share) {
  const double cell = share / hidden;  // of the sphere's area
  const double spacing = 1.2 * std::sqrt(4 * std::numbers::pi * cell * 2 / std::sqrt(3.0));
  const double reach = options.cutoff_factor * spacing;
  const double in_reach =
      static_cast<double>(grid.size()) / share * std::pow(std::sin(std::min(reach, 3.1) / 2), 2);
  return static_cast<int64_t>(hidden *
                              std::min(in_reach, static_cast<double>(options.max_neighbours)));
}

/// Of the sphere, with the margin that the hidden mesh has around a regional grid.
double share_of_sphere(const Grid& grid, double margin_degrees) {
  if (!grid.regional) return 1;
  const auto ends = [](const at::Tensor& values) {
    return std::pair(values.min().item<double>(), values.max().item<double>());
  };
  const auto [south, north] = ends(grid.latitude);
  const auto [west, east] = ends(at::remainder(grid.longitude - grid.longitude[0] + 180, 360));
  const double radians = std::numbers::pi / 180;
  const auto height = [&](double degrees) {
    return std::sin(std::clamp(degrees, -90.0, 90.0) * radians);
  };
  const double widest =
      std::cos(std::min(90.0, std::min(std::abs(south), std::abs(north))) * radians);
  const double width = std::min(360.0, east - west + 2 * margin_degrees / std::max(widest, 0.1));
  return width / 360 * (height(north + margin_degrees) - height(south - margin_degrees)) / 2;
}

Grid make_named_grid(const Experiment& experiment, const Dataset& dataset) {
  if (experiment.grid == "file") {
    return make_file_grid(dataset.latitudes(), dataset.longitudes(), experiment.data.paths.front());
  }
  auto grid = make_gaussian_grid(experiment.grid);
  const auto rows = dataset.latitudes().size(), columns = dataset.longitudes().size();
  const auto points = static_cast<int64_t>(rows * columns);
  ISOBAR_CHECK(grid.size() == points, "graph.grid: ", experiment.grid, " has ", grid.size(),
               " points, the data have ", points, "; 'grid: file' takes the data's own");
  ISOBAR_CHECK(rows == 1 || columns == 1, "graph.grid: ", experiment.grid,
               " is one row of points, the data lie on ", rows, " latitudes and ", columns,
               " longitudes; 'grid: file' takes these");
  return grid;
}

Grid make_grid(const Experiment& experiment, const Dataset& dataset) {
  auto grid = make_named_grid(experiment, dataset);
  if (experiment.area == "voronoi") grid.area = voronoi_area({grid.latitude, grid.longitude});
  return grid;
}

CachedGraph graph_on(const Grid& grid, const Experiment& experiment) {
  check_mesh(grid, experiment.graph);
  if (experiment.graph_cache.empty()) return {build_graph(grid, experiment.graph), {}};
  return build_or_load_graph(grid, experiment.graph, experiment.graph_cache);
}

std::vector<int64_t> rollouts(const Experiment& experiment) {
  std::vector<int64_t> lengths;
  const int64_t longest = experiment.longest_rollout();
  for (int64_t length = 1; length < longest; length *= 2) lengths.push_back(length);
  lengths.push_back(longest);
  return lengths;
}

PlannedStep plan_largest(const Experiment& experiment, const std::vector<GraphSizes>& ranks,
                         int64_t rollout, int64_t memory_bytes) {
  PlannedStep largest;
  largest.rollout = rollout;
  for (const GraphSizes& sizes : ranks) {
    const auto options = plan_options(experiment, rollout);
    auto network = network_options(experiment);
    if (memory_bytes > 0 && network.device_memory_bytes > 0) {
      network.device_memory_bytes = memory_bytes;
    }
    if (memory_bytes > 0) network = fit_memory(network, sizes, options, memory_bytes);
    const auto plan = plan_memory(network, sizes, options);
    if (plan.peak_bytes > largest.memory.peak_bytes) largest = {network, rollout, plan};
  }
  return largest;
}

}  // namespace

WeatherGnnOptions network_options(const Experiment& experiment) {
  const auto outputs = static_cast<int64_t>(experiment.outputs().size());
  const bool narrow = experiment.precision != at::kFloat;
  return {.features_in = input_features(experiment.seen),
          .features_out = outputs,
          .channels = experiment.channels,
          .layers = experiment.layers,
          .node_table = experiment.node_table,
          .edge_table = experiment.edge_table,
          .seed = experiment.seed,
          .compute = narrow ? experiment.precision : c10::ScalarType::Undefined,
          .activations =
              experiment.activations == "recompute" ? Activations::recompute : Activations::keep,
          .chunk_edges = experiment.chunk_edges,
          .device_memory_bytes = device_memory(experiment)};
}

Grid make_data_grid(const Experiment& experiment, const Dataset& dataset) {
  return make_named_grid(experiment, dataset);
}

GraphSizes estimate_sizes(const Grid& grid, const GraphOptions& options) {
  const double share = share_of_sphere(grid, options.margin_degrees);
  const auto nodes = [&](int64_t level) { return share * (10 * std::pow(4, level) + 2); };
  GraphSizes sizes{.data_nodes = grid.size(),
                   .decoder_edges = grid.size() * options.decoder_neighbours};
  double hidden = nodes(options.hidden_level), processor = 0;
  if (options.hidden_grid.empty()) {
    for (auto level = options.min_level; level <= options.hidden_level; ++level) {
      processor += 6 * nodes(level);
    }
  } else {
    hidden = share * static_cast<double>(make_gaussian_grid(options.hidden_grid).size());
    processor = hidden * static_cast<double>(options.processor_neighbours);
  }
  sizes.hidden_nodes = std::max<int64_t>(1, std::llround(hidden));
  sizes.processor_edges = std::llround(processor);
  sizes.encoder_edges = encoder_edges(grid, options, hidden, share);
  return sizes;
}

void check_memory(const Experiment& experiment, const Grid& grid) {
  if (experiment.comm.device != "cpu") return;
  const auto whole = estimate_sizes(grid, experiment.graph);
  const int64_t parts = experiment.model_ranks;
  const GraphSizes part{.data_nodes = whole.data_nodes / parts,
                        .hidden_nodes = whole.hidden_nodes / parts,
                        .encoder_edges = whole.encoder_edges / parts,
                        .processor_edges = whole.processor_edges / parts,
                        .decoder_edges = whole.decoder_edges / parts};
  const auto options = plan_options(experiment, experiment.longest_rollout());
  auto network = network_options(experiment);
  const int64_t machine = machine_memory_bytes();
  const int64_t ranks = read_launch_environment().local_size;
  if (experiment.activations == "auto") {
    network = fit_memory(network, part, options, experiment.device_memory_bytes);
  }
  const auto planned = static_cast<double>(plan_memory(network, part, options).peak_bytes);
  if (planned * static_cast<double>(ranks) <= 1.25 * static_cast<double>(machine)) return;
  const auto size = [](double bytes) { return format_bytes(std::llround(bytes)); };
  throw UsageError(fmt::format(
      "graph.hidden_level: a training step with about {} hidden nodes for {} data points is "
      "predicted to take {} on each of the {} rank{} of this machine, which has {}; take {}{}, or "
      "fewer model.channels, model.activations: recompute, more model.ranks",
      whole.hidden_nodes, whole.data_nodes, size(planned), ranks, ranks == 1 ? "" : "s",
      size(static_cast<double>(machine)),
      experiment.trainer.batch > 1 ? "a smaller train.batch, " : "",
      whole.hidden_nodes > whole.data_nodes / 4
          ? fmt::format("level {} or a coarser one", suggested_level(grid))
          : "a coarser level"));
}

std::string check_mesh(const Grid& grid, const GraphOptions& options) {
  const auto hidden = estimate_sizes(grid, options).hidden_nodes;
  if (hidden <= grid.size()) return {};
  const auto text = fmt::format(
      "graph.{}: about {} hidden nodes, more than the {} data points: the mesh is finer than the "
      "grid; hidden_level: {} leaves four points to a node",
      options.hidden_grid.empty() ? fmt::format("hidden_level: {}", options.hidden_level)
                                  : "hidden_grid: " + options.hidden_grid,
      hidden, grid.size(), suggested_level(grid));
  const bool long_to_build = options.hidden_grid.empty() && options.hidden_level >= kLongLevel;
  ISOBAR_CHECK(!long_to_build || hidden <= kFarTooFine * grid.size(), text);
  return text;
}

double icosphere_spacing_degrees(int64_t level) {
  const double cell = 4 * std::numbers::pi / (10 * std::pow(4, level) + 2);
  return std::sqrt(2 * cell / std::sqrt(3.0)) * 180 / std::numbers::pi;
}

int64_t suggested_level(const Grid& grid) {
  const double share = share_of_sphere(grid, 0);
  const double wanted = static_cast<double>(grid.size()) / 4;
  int64_t level = 0;
  while (level < 10 && share * 10 * std::pow(4, level + 1) <= wanted) ++level;
  return level;
}

PlanOptions plan_options(const Experiment& experiment, int64_t rollout) {
  const bool momentum = experiment.trainer.optimizer.momentum > 0;
  const bool averaged = experiment.trainer.average_decay > 0;
  const int64_t moments = experiment.trainer.optimizer.method == "adamw" ? 2 : momentum ? 1 : 0;
  return {.batch = experiment.trainer.batch,
          .rollout = rollout,
          .optimizer_values = moments + (averaged ? 1 : 0)};
}

const char* name_of(Activations activations) {
  return activations == Activations::keep ? "keep" : "recompute";
}

std::string describe_plan(const PlannedNetwork& planned) {
  return fmt::format(
      "passes {} what they computed, in chunks of {} edges; the largest step is predicted to take "
      "{:.3f} GiB and {:.3g} TFLOP on this rank",
      name_of(planned.options.activations), chunk_edges_of(planned.options),
      static_cast<double>(planned.memory.peak_bytes) / (1 << 30), planned.memory.step_flops / 1e12);
}

CachedGraph make_graph(const Experiment& experiment, const Dataset& dataset) {
  return graph_on(make_grid(experiment, dataset), experiment);
}

WeatherGraph make_graph(const Experiment& experiment) {
  const auto grid = experiment.grid == "file" ? make_grid(experiment, Dataset(experiment.data))
                                              : make_gaussian_grid(experiment.grid);
  return graph_on(grid, experiment).graph;
}

std::vector<GraphSizes> model_sizes(const Experiment& experiment, const WeatherGraph& graph) {
  const auto partition =
      make_partition(graph, experiment.model_ranks, parse_partition_method(experiment.partition));
  std::vector<GraphSizes> sizes;
  for (int rank = 0; rank < experiment.model_ranks; ++rank) {
    sizes.push_back(sizes_of(make_shard(graph, partition, rank)));
  }
  return sizes;
}

std::vector<PlannedStep> plan_steps(const Experiment& experiment,
                                    const std::vector<GraphSizes>& ranks, int64_t memory_bytes) {
  std::vector<PlannedStep> steps;
  for (const int64_t rollout : rollouts(experiment)) {
    steps.push_back(plan_largest(experiment, ranks, rollout, memory_bytes));
  }
  return steps;
}

}  // namespace isobar
