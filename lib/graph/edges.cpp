// SPDX-License-Identifier: Apache-2.0
// Called by build_graph(), and by the doctor for the radius of a cutoff, on one thread. LibTorch's
// threads share the destinations out in chunks whose size is fixed, and the chunks are joined in
// order: the edges are the same whatever the number of threads.
//
// An EdgeSet is sorted by destination and then by source, which all that follows relies on: sums at
// destinations are sums over neighbouring rows, in the same order in each run, and shards are cut
// out without a sort.
#include <isobar/core/error.hpp>
#include <isobar/graph/edges.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graph/chunks.hpp"
#include "graph/cutoff.hpp"
#include "graph/edge_attributes.hpp"
#include "graph/point_tree.hpp"

namespace isobar {
namespace {

std::vector<UnitVector> points_of(const Positions& positions) {
  return unit_vectors(positions.latitude, positions.longitude);
}

/// The edges into one chunk of destinations.
struct Piece {
  std::vector<int64_t> source, destination;
};

/// Edges sorted as EdgeSet promises: `neighbours_of(i)` gives the sources of destination i.
template <typename NeighboursOf>
std::vector<Piece> search(int64_t destinations, const NeighboursOf& neighbours_of) {
  std::vector<Piece> pieces(chunk_count(destinations));
  for_each_chunk(destinations, [&](int64_t chunk, int64_t begin, int64_t end) {
    auto& [source, destination] = pieces[chunk];
    for (int64_t i = begin; i < end; ++i) {
      const std::vector<Neighbour> neighbours = neighbours_of(i);
      const auto first = static_cast<std::ptrdiff_t>(source.size());
      for (const Neighbour& neighbour : neighbours) source.push_back(neighbour.index);
      std::sort(source.begin() + first, source.end());
      destination.insert(destination.end(), neighbours.size(), i);
    }
  });
  return pieces;
}

EdgeSet collect(const Positions& sources, const Positions& destinations,
                const std::vector<Piece>& pieces) {
  int64_t size = 0;
  for (const Piece& piece : pieces) size += std::ssize(piece.source);
  EdgeSet edges{at::empty({size}, at::kLong),
                at::empty({size}, at::kLong),
                {},
                sources.latitude.size(0),
                destinations.latitude.size(0)};
  auto* source = edges.source.mutable_data_ptr<int64_t>();
  auto* destination = edges.destination.mutable_data_ptr<int64_t>();
  for (const Piece& piece : pieces) {
    source = std::copy(piece.source.begin(), piece.source.end(), source);
    destination = std::copy(piece.destination.begin(), piece.destination.end(), destination);
  }
  edges.attributes = edge_attributes(sources, destinations, edges.source, edges.destination);
  return edges;
}

}  // namespace

double cutoff_radius(const Positions& hidden, double factor) {
  const auto points = points_of(hidden);
  const PointTree tree(points);
  std::vector<double> largest(chunk_count(std::ssize(points)));
  for_each_chunk(std::ssize(points), [&](int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      largest[chunk] = std::max(largest[chunk], tree.nearest(points[i], 2).back().squared_chord);
    }
  });
  return factor * std::sqrt(*std::max_element(largest.begin(), largest.end()));
}

at::Tensor count_within(const Positions& data, const Positions& hidden, double chord) {
  const auto points = points_of(hidden);
  const PointTree tree(points_of(data));
  at::Tensor counts = at::empty({std::ssize(points)}, at::kLong);
  auto* out = counts.mutable_data_ptr<int64_t>();
  for_each_chunk(std::ssize(points), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = std::ssize(tree.within(points[i], chord));
  });
  return counts;
}

EdgeSet cutoff_edges(const Positions& data, const Positions& hidden, const CutoffOptions& options) {
  ISOBAR_CHECK(options.factor > 0, "cutoff_edges: factor must be positive, got ", options.factor);
  ISOBAR_CHECK(options.max_neighbours > 0, "cutoff_edges: max_neighbours must be positive, got ",
               options.max_neighbours);
  ISOBAR_CHECK(hidden.latitude.size(0) >= 2, "cutoff_edges: wanted at least 2 hidden nodes, got ",
               hidden.latitude.size(0));
  const double radius = cutoff_radius(hidden, options.factor);
  const auto points = points_of(hidden);
  const PointTree tree(points_of(data));
  return collect(data, hidden, search(std::ssize(points), [&](int64_t i) {
                   std::vector<Neighbour> neighbours = tree.within(points[i], radius);
                   neighbours.resize(std::min<size_t>(neighbours.size(), options.max_neighbours));
                   return neighbours;
                 }));
}

EdgeSet nearest_edges(const Positions& sources, const Positions& destinations, int64_t neighbours) {
  ISOBAR_CHECK(neighbours > 0 && neighbours <= sources.latitude.size(0),
               "nearest_edges: wanted 1 to ", sources.latitude.size(0),
               " neighbours, the number of sources, got ", neighbours);
  const auto points = points_of(destinations);
  const PointTree tree(points_of(sources));
  return collect(sources, destinations, search(std::ssize(points), [&](int64_t i) {
                   return tree.nearest(points[i], neighbours);
                 }));
}

EdgeSet nearest_other_edges(const Positions& nodes, int64_t neighbours) {
  ISOBAR_CHECK(neighbours > 0 && neighbours < nodes.latitude.size(0),
               "nearest_other_edges: wanted 1 to ", nodes.latitude.size(0) - 1,
               " neighbours, the number of other nodes, got ", neighbours);
  const auto points = points_of(nodes);
  const PointTree tree(points);
  return collect(nodes, nodes, search(std::ssize(points), [&](int64_t i) {
                   std::vector<Neighbour> found = tree.nearest(points[i], neighbours + 1);
                   // Coincident nodes can keep a node out of its own neighbours.
                   const auto self =
                       std::find_if(found.begin(), found.end(),
                                    [&](const Neighbour& other) { return other.index == i; });
                   found.erase(self != found.end() ? self : found.end() - 1);
                   return found;
                 }));
}

EdgeSet multi_scale_edges(const Icosphere& mesh) {
  const Positions nodes{mesh.latitude, mesh.longitude};
  const at::Tensor all = at::cat(mesh.edges, 1);
  const at::Tensor order = (all[1] * mesh.size() + all[0]).argsort();
  EdgeSet edges{
      all[0].index_select(0, order), all[1].index_select(0, order), {}, mesh.size(), mesh.size()};
  edges.attributes = edge_attributes(nodes, nodes, edges.source, edges.destination);
  return edges;
}

}  // namespace isobar
