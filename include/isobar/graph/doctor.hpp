// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/partition.hpp>
#include <isobar/graph/weather_graph.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// The edges at the nodes of one end of an edge set.
struct DegreeReport {
  int64_t minimum = 0;
  int64_t median = 0;
  int64_t maximum = 0;
  int64_t without = 0;  ///< nodes without an edge
};

struct EdgeSetReport {
  std::string name;  ///< encoder, processor, decoder
  int64_t edges = 0;
  DegreeReport sources;
  DegreeReport destinations;
};

/// What one rank of a model has to hold, compute and receive.
struct RankReport {
  int64_t data_nodes = 0;    ///< owned
  int64_t hidden_nodes = 0;  ///< owned
  int64_t encoder_edges = 0;
  int64_t processor_edges = 0;
  int64_t decoder_edges = 0;
  int64_t encoder_halo = 0;    ///< rows of data nodes received
  int64_t processor_halo = 0;  ///< rows of hidden nodes received, a layer
  int64_t decoder_halo = 0;    ///< rows of hidden nodes received

  int64_t edges() const { return encoder_edges + processor_edges + decoder_edges; }
};

struct PartitionReport {
  PartitionMethod method = PartitionMethod::bands;
  std::vector<RankReport> ranks;
  /// Edges of the rank that has most over the mean; 1 is even.
  double imbalance = 1;
  /// Rows that cross over those that all-gathers of the sources would move, for
  /// encoder, one processor layer and decoder together; 0 for one rank.
  double gathered_share = 0;
};

struct GraphReport {
  int64_t data_nodes = 0;
  int64_t hidden_nodes = 0;
  bool regional = false;                   ///< the data grid does not cover the sphere
  int64_t uncovered = 0;                   ///< data nodes without an encoder edge
  int64_t capped_nodes = 0;                ///< hidden nodes at which max_neighbours cut edges off
  int64_t capped_edges = 0;                ///< encoder edges that it cut off
  std::vector<EdgeSetReport> edges = {};   ///< encoder, processor, decoder
  std::vector<PartitionReport> cuts = {};  ///< by each method, for `ranks`
  std::vector<std::string> warnings = {};  ///< sentences: what is amiss, and what to do
};

/// Looks for what makes a graph train badly, or slowly on `ranks` ranks. `options`
/// are those that it was built with. Throws UsageError, see make_partition.
GraphReport inspect_graph(const WeatherGraph& graph, const GraphOptions& options, int ranks = 1);

/// "bands" or "bisection".
std::string to_string(PartitionMethod method);

}  // namespace isobar
