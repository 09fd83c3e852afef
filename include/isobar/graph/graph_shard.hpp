// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>
#include <isobar/graph/partition.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace isobar {

/// Which rows of a set of graph nodes cross between the ranks of a model, as
/// one rank sees it. Counts are by peer; a rank's count for itself is zero.
struct HaloPlan {
  at::Tensor send_rows;                 ///< [S] int64: owned rows in the order in which they leave
  std::vector<int64_t> send_counts;     ///< rows for each peer; their sum is S
  std::vector<int64_t> receive_counts;  ///< rows from each peer

  int64_t owned = 0;  ///< rows that this rank owns
  /// Rows that it receives: they follow the owned ones, numbered from `owned`,
  /// by peer and for one peer in the global order of nodes.
  int64_t halo() const;
};

/// The edges into the nodes that one rank owns.
struct EdgeShard {
  /// Destinations count in the rank's own nodes, sources in its own and then
  /// its halo. Sorted by destination; the edges of one destination keep the order
  /// of the whole graph, so that a sum over them has the same bits.
  EdgeSet edges;
  at::Tensor rows;  ///< [E] int64: each edge's place in the whole graph's edge set
  HaloPlan halo;    ///< of the sources
  /// The destinations up to this one have no source in the halo.
  int64_t interior = 0;
};

/// What one rank of a model holds of a WeatherGraph.
///
/// A rank's own nodes are numbered from zero: first those whose edges come from
/// own nodes alone (hidden nodes: of encoder and processor), then the others,
/// each group in the order of the whole graph. With one rank this is the whole
/// graph in its own order, without halos.
struct GraphShard {
  at::Tensor data_rows;          ///< [n] int64: own data nodes, their place in the whole graph
  at::Tensor hidden_rows;        ///< [v] int64: own hidden nodes
  at::Tensor data_attributes;    ///< [n, 4] float32, see node_attributes
  at::Tensor hidden_attributes;  ///< [v, 4] float32
  EdgeShard encoder;             ///< data to hidden
  EdgeShard processor;           ///< hidden to hidden
  EdgeShard decoder;             ///< hidden to data
  int64_t data_nodes = 0;        ///< of the whole graph
  int64_t hidden_nodes = 0;      ///< of the whole graph
  int64_t encoder_edges = 0;     ///< of the whole graph; and so on
  int64_t processor_edges = 0;
  int64_t decoder_edges = 0;
};

/// The part of `rank`. A function of the arguments: ranks agree without a
/// message. Throws UsageError if the partition is of another graph.
GraphShard make_shard(const WeatherGraph& graph, const Partition& partition, int rank);

/// The whole graph as the only shard.
GraphShard make_shard(const WeatherGraph& graph);

}  // namespace isobar
