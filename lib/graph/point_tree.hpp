// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "graph/sphere.hpp"

namespace isobar {

struct Neighbour {
  double squared_chord;
  int64_t index;

  auto operator<=>(const Neighbour&) const = default;
};

/// Finds the nearest of a fixed set of points of the unit sphere, in the
/// logarithm of their number. Distances are chords, which order as angles do.
class PointTree {
 public:
  explicit PointTree(std::vector<UnitVector> points);
  ~PointTree();

  /// The `count` points nearest to `from` (all, if there are fewer), nearest
  /// first; equally near ones in an order that repeats.
  std::vector<Neighbour> nearest(const UnitVector& from, int64_t count) const;

  /// The points closer to `from` than `chord`, nearest first; of equally near
  /// ones the lower index is first.
  std::vector<Neighbour> within(const UnitVector& from, double chord) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
