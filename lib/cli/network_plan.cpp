// SPDX-License-Identifier: Apache-2.0
#include "cli/network_plan.hpp"

#include <isobar/core/error.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <isobar/graph/voronoi.hpp>
#include <fmt/format.h>

namespace isobar {
namespace {

/// Of a GPU of which nothing is said.
constexpr int64_t kDeviceMemoryBytes = int64_t{40} << 30;

int64_t device_memory(const Experiment& experiment) {
  if (experiment.comm.device == "cpu") return 0;
  return experiment.device_memory_bytes > 0 ? experiment.device_memory_bytes : kDeviceMemoryBytes;
}

Grid make_named_grid(const Experiment& experiment, const Dataset& dataset) {
  if (experiment.grid == "file") {
    return make_latlon_grid(dataset.latitudes(), dataset.longitudes());
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
  if (experiment.graph_cache.empty()) return {build_graph(grid, experiment.graph), {}};
  return build_or_load_graph(grid, experiment.graph, experiment.graph_cache);
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

}  // namespace isobar
