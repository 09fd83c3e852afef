// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/graph_shard.hpp>
#include <isobar/model/weather_gnn.hpp>

#include <cstdint>

namespace isobar {

/// How large a rank's part of a graph is.
struct GraphSizes {
  int64_t data_nodes = 0;    ///< own
  int64_t hidden_nodes = 0;  ///< own
  int64_t encoder_edges = 0;
  int64_t processor_edges = 0;
  int64_t decoder_edges = 0;
  int64_t encoder_halo = 0;  ///< rows received; and so on
  int64_t processor_halo = 0;
  int64_t decoder_halo = 0;
};

GraphSizes sizes_of(const GraphShard& shard);
/// Of one rank that has it all.
GraphSizes sizes_of(const WeatherGraph& graph);

struct PlanOptions {
  int64_t batch = 1;
  int64_t rollout = 1;           ///< forecast steps whose gradients are taken together
  int64_t parameter_bytes = 4;   ///< float32 weights; 8 for float64
  int64_t optimizer_values = 2;  ///< kept for each parameter: 2 for adamw, 1 for momentum
};

/// What a training step of a WeatherGnn takes on one rank.
struct MemoryPlan {
  int64_t network_parameters = 0;
  int64_t table_parameters = 0;  ///< of the rank

  // At the end of the forward pass, in bytes.
  int64_t weight_bytes = 0;   ///< weights, gradients and the optimizer's values
  int64_t graph_bytes = 0;    ///< indices and attributes
  int64_t encoder_bytes = 0;  ///< of all forecast steps; and so on
  int64_t processor_bytes = 0;
  int64_t decoder_bytes = 0;

  /// The most tensors that are there at once, in bytes: of all the above, inputs
  /// and what passes use on the way.
  int64_t peak_bytes = 0;

  double forward_flops = 0;  ///< of matrix products, all forecast steps
  double step_flops = 0;     ///< forward, backward and what is computed again
};

/// Predicts by going through a step as the network does, tensor by tensor.
/// Throws UsageError for options out of range.
MemoryPlan plan_memory(const WeatherGnnOptions& network, const GraphSizes& sizes,
                       const PlanOptions& options = {});

/// The options with which a step takes at most `memory_bytes`, what is faster first:
/// `keep`; `recompute`; and then chunks of ever fewer edges, halved down to 256. Where
/// nothing is enough, the last of these. Throws as plan_memory.
WeatherGnnOptions fit_memory(WeatherGnnOptions network, const GraphSizes& sizes,
                             const PlanOptions& options, int64_t memory_bytes);

/// Edges that are computed together: chunk_edges, or what 0 stands for.
int64_t chunk_edges_of(const WeatherGnnOptions& network);

}  // namespace isobar
