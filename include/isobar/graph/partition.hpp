// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>
#include <ATen/core/Tensor.h>

#include <string_view>

namespace isobar {

/// How the graph nodes are shared out over the ranks of a model.
///
/// - `bands`: neighbours in the order of the nodes, which runs from north to
///   south: bands of latitude, the first ones one node larger where the number
///   does not divide.
/// - `bisection`: halves the sphere by planes until there is a part for each
///   rank, each time across the part's longest extent. Shorter borders than
///   bands from four ranks on.
enum class PartitionMethod { bands, bisection };

/// Reads "bands", "bisection"; UsageError otherwise.
PartitionMethod parse_partition_method(std::string_view name);

/// The rank that owns each graph node.
struct Partition {
  at::Tensor data;    ///< [N] int64
  at::Tensor hidden;  ///< [V] int64
  int ranks = 1;
};

/// Shares out both sets of nodes, each evenly to within `ranks` nodes: the work
/// of a rank is in proportion to the nodes whose incoming edges it owns. Depends
/// on the arguments alone. Throws UsageError unless there is a node of each set
/// for every rank.
Partition make_partition(const WeatherGraph& graph, int ranks,
                         PartitionMethod method = PartitionMethod::bands);

}  // namespace isobar
