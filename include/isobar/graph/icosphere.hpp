// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/grid.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace isobar {

/// An icosahedron whose triangles were split in four `level` times, each new
/// graph node pushed out to the unit sphere: 10 * 4^level + 2 nodes.
///
/// Orientation: corners at the cyclic permutations of (+-1, +-phi, 0), so that
/// from level 1 on a node lies at each pole. Order: north to south, and on one
/// parallel from east to west, longitudes in (-180, 180]; a pole has longitude 0.
struct Icosphere {
  at::Tensor latitude;            ///< [V] float64, degrees north
  at::Tensor longitude;           ///< [V] float64, degrees east
  int64_t min_level = 1;          ///< the coarsest level in `edges`
  std::vector<at::Tensor> edges;  ///< one [2, E] int64 a level, coarsest first

  int64_t size() const { return latitude.size(0); }
  int64_t level() const { return min_level + static_cast<int64_t>(edges.size()) - 1; }
};

struct IcosphereOptions {
  int64_t level = 5;      ///< 0 to 10: 4 is 2,562 nodes, 5 10,242, 6 40,962
  int64_t min_level = 1;  ///< edges of the levels min_level to level are kept
};

/// The mesh with the edges of its levels, in the indices of the finest: row 0
/// holds sources, row 1 destinations, every edge in both directions, 60 * 4^l
/// of them at level l. Throws UsageError if the levels are out of range.
Icosphere make_icosphere(const IcosphereOptions& options);

/// The part of a mesh near `region`: the nodes whose great-circle distance to
/// some point of the region is at most `margin_degrees`, in the same order, and
/// at each level the edges of which both ends are kept.
///
/// Throws UsageError if no node, or a node without any edge, would be left:
/// a higher level or a wider margin is needed.
Icosphere restrict_to(const Icosphere& mesh, const Grid& region, double margin_degrees);

}  // namespace isobar
