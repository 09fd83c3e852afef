// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/edges.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graph/edge_attributes.hpp"
#include "graph/point_tree.hpp"

namespace isobar {
namespace {

using detail::Neighbour;
using detail::PointTree;
using detail::UnitVector;

std::vector<UnitVector> points_of(const Positions& positions) {
  return detail::unit_vectors(positions.latitude, positions.longitude);
}

/// The largest distance of a point to its nearest other one.
double largest_gap(const std::vector<UnitVector>& points, const PointTree& tree) {
  double largest = 0;
  for (const UnitVector& point : points) {
    largest = std::max(largest, tree.nearest(point, 2).back().squared_chord);
  }
  return std::sqrt(largest);
}

/// Edges sorted as EdgeSet promises, since destinations are visited in order: `neighbours_of(i)`
/// gives the sources of destination i.
template <typename NeighboursOf>
EdgeSet collect(const Positions& sources, const Positions& destinations,
                const NeighboursOf& neighbours_of) {
  std::vector<int64_t> source, destination;
  const auto points = points_of(destinations);
  for (size_t i = 0; i < points.size(); ++i) {
    const std::vector<Neighbour> neighbours = neighbours_of(points[i]);
    const auto first = static_cast<std::ptrdiff_t>(source.size());
    for (const Neighbour& neighbour : neighbours) source.push_back(neighbour.index);
    std::sort(source.begin() + first, source.end());
    destination.insert(destination.end(), neighbours.size(), static_cast<int64_t>(i));
  }
  EdgeSet edges{detail::to_tensor(source),
                detail::to_tensor(destination),
                {},
                sources.latitude.size(0),
                destinations.latitude.size(0)};
  edges.attributes =
      detail::edge_attributes(sources, destinations, edges.source, edges.destination);
  return edges;
}

}  // namespace

EdgeSet cutoff_edges(const Positions& data, const Positions& hidden, const CutoffOptions& options) {
  ISOBAR_CHECK(options.factor > 0, "cutoff_edges: factor must be positive, got ", options.factor);
  ISOBAR_CHECK(options.max_neighbours > 0, "cutoff_edges: max_neighbours must be positive, got ",
               options.max_neighbours);
  ISOBAR_CHECK(hidden.latitude.size(0) >= 2, "cutoff_edges: wanted at least 2 hidden nodes, got ",
               hidden.latitude.size(0));
  const auto hidden_points = points_of(hidden);
  const double radius = options.factor * largest_gap(hidden_points, PointTree(hidden_points));
  const PointTree tree(points_of(data));
  return collect(data, hidden, [&](const UnitVector& point) {
    std::vector<Neighbour> neighbours = tree.within(point, radius);
    neighbours.resize(std::min<size_t>(neighbours.size(), options.max_neighbours));
    return neighbours;
  });
}

EdgeSet nearest_edges(const Positions& sources, const Positions& destinations, int64_t neighbours) {
  ISOBAR_CHECK(neighbours > 0 && neighbours <= sources.latitude.size(0),
               "nearest_edges: wanted 1 to ", sources.latitude.size(0),
               " neighbours, the number of sources, got ", neighbours);
  const PointTree tree(points_of(sources));
  return collect(sources, destinations,
                 [&](const UnitVector& point) { return tree.nearest(point, neighbours); });
}

EdgeSet multi_scale_edges(const Icosphere& mesh) {
  const Positions nodes{mesh.latitude, mesh.longitude};
  const at::Tensor all = at::cat(mesh.edges, 1);
  const at::Tensor order = (all[1] * mesh.size() + all[0]).argsort();
  EdgeSet edges{
      all[0].index_select(0, order), all[1].index_select(0, order), {}, mesh.size(), mesh.size()};
  edges.attributes = detail::edge_attributes(nodes, nodes, edges.source, edges.destination);
  return edges;
}

}  // namespace isobar
