// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

#include <isobar/data/dataset.hpp>
#include <isobar/graph/graph_file.hpp>
#include <isobar/model/memory_plan.hpp>
#include <isobar/model/weather_gnn.hpp>

#include <string>
#include <vector>

namespace isobar {

/// The network of an experiment, before memory is looked at (model.activations: auto).
WeatherGnnOptions network_options(const Experiment& experiment);

/// What a step of it keeps beside the network.
PlanOptions plan_options(const Experiment& experiment, int64_t rollout);

/// A network as it is built on one rank, and what a training step of it takes.
struct PlannedNetwork {
  WeatherGnnOptions options;
  MemoryPlan memory;
};

/// "keep" or "recompute".
const char* name_of(Activations activations);

/// One line: what was chosen, and what it is predicted to take.
std::string describe_plan(const PlannedNetwork& planned);

/// The points that an experiment's data live on, with the grid's own weights.
Grid make_data_grid(const Experiment& experiment, const Dataset& dataset);

/// The mean distance between neighbouring nodes of an icosphere.
double icosphere_spacing_degrees(int64_t level);

/// The finest icosphere level that leaves four data points or more to each hidden node.
int64_t suggested_level(const Grid& grid);

/// About what a graph of these options over the grid will have, without building it: within a
/// half, most of it where rows of a latitude-longitude grid crowd at the poles.
GraphSizes estimate_sizes(const Grid& grid, const GraphOptions& options);

/// A line where the hidden mesh is finer than the grid; "" elsewhere. Throws UsageError, before
/// minutes are spent on it, where a large one is so by far.
std::string check_mesh(const Grid& grid, const GraphOptions& options);

/// Throws UsageError where the ranks of this machine would need more than its memory to train on
/// the CPU, before the graph is built. Mistakes of the hidden level are powers of four, so a
/// quarter more than there is is let through.
void check_memory(const Experiment& experiment, const Grid& grid);

/// The graph of an experiment, or that of its cache.
CachedGraph make_graph(const Experiment& experiment, const Dataset& dataset);
/// The same; reads the data only where they are the grid.
WeatherGraph make_graph(const Experiment& experiment);

/// The parts of the graph that the ranks of a model have.
std::vector<GraphSizes> model_sizes(const Experiment& experiment, const WeatherGraph& graph);

/// A training step of the rank of a model that needs most.
struct PlannedStep {
  WeatherGnnOptions network;
  int64_t rollout = 1;  ///< steps of the forecast that the loss covers
  MemoryPlan memory;
};

/// For forecasts of 1, 2, 4 and so on steps, up to the experiment's longest; `ranks` are
/// model_sizes(). With `memory_bytes` above 0, what is kept for the backward pass is chosen so that
/// a step fits into as many, where it can.
std::vector<PlannedStep> plan_steps(const Experiment& experiment,
                                    const std::vector<GraphSizes>& ranks, int64_t memory_bytes);

}  // namespace isobar
