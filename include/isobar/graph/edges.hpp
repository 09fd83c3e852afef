// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/icosphere.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace isobar {

/// Where graph nodes are: [N] float64 each, in degrees.
struct Positions {
  at::Tensor latitude;
  at::Tensor longitude;
};

/// Directed edges from one set of graph nodes to another, or within one.
///
/// Sorted by destination and, for one destination, by source, so that a sum
/// over the edges of a destination is a sum over a contiguous range.
struct EdgeSet {
  at::Tensor source;       ///< [E] int64
  at::Tensor destination;  ///< [E] int64, never falling
  /// [E, 3] float32: great-circle length, direction x, direction y.
  ///
  /// The direction is seen from the destination: the rotation along its
  /// meridian that takes the destination to the north pole takes the source
  /// to a point whose x and y, scaled to length one, are the direction.
  /// Lengths are divided by their standard deviation, and both components of
  /// the direction by their common one (unbiased, over this edge set). This is
  /// what anemoi-graphs stores as edge_length and edge_dirs with `unit-std`.
  /// An edge between coincident nodes has direction (0, 0).
  at::Tensor attributes;
  int64_t sources = 0;       ///< number of graph nodes that `source` counts in
  int64_t destinations = 0;  ///< number of graph nodes that `destination` counts in

  int64_t size() const { return source.size(0); }
};

struct CutoffOptions {
  double factor = 0.6;
  int64_t max_neighbours = 64;
};

/// Edges to every hidden node from the data nodes within a radius of it.
///
/// The radius is `factor` times the largest distance of a hidden node to its
/// nearest other hidden node, both as chords of the unit sphere. Where more
/// than `max_neighbours` data nodes are within it, the nearest are taken.
EdgeSet cutoff_edges(const Positions& data, const Positions& hidden,
                     const CutoffOptions& options = {});

/// Edges to every destination from its `neighbours` nearest sources. Which of
/// equally near ones is taken follows from the positions alone, and repeats.
EdgeSet nearest_edges(const Positions& sources, const Positions& destinations, int64_t neighbours);

/// Edges to every node from its `neighbours` nearest other ones of the same set.
EdgeSet nearest_other_edges(const Positions& nodes, int64_t neighbours);

/// The edges of all levels of a mesh as one set.
EdgeSet multi_scale_edges(const Icosphere& mesh);

}  // namespace isobar
