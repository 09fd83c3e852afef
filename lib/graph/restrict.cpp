// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/icosphere.hpp>
#include <ATen/ATen.h>

#include "graph/chunks.hpp"
#include "graph/point_tree.hpp"
#include "graph/restrict.hpp"

namespace isobar {

at::Tensor rows_near(const Positions& nodes, const Grid& region, double margin_degrees) {
  ISOBAR_CHECK(margin_degrees >= 0 && margin_degrees <= 180,
               "hidden mesh: the margin must be 0 to 180 degrees, got ", margin_degrees);
  const PointTree tree(unit_vectors(region.latitude, region.longitude));
  const double chord = chord_of_angle(margin_degrees * kRadiansPerDegree);
  const auto points = unit_vectors(nodes.latitude, nodes.longitude);
  at::Tensor near = at::zeros({std::ssize(points)}, at::kBool);
  bool* data = near.mutable_data_ptr<bool>();
  for_each_chunk(std::ssize(points), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      data[i] = tree.nearest(points[i], 1).front().squared_chord <= chord * chord;
    }
  });
  return near.nonzero().flatten();
}

namespace {

/// The edges of which both ends have a new index, in the new indices.
at::Tensor relabelled(const at::Tensor& edges, const at::Tensor& new_index) {
  const at::Tensor ends = new_index.index_select(0, edges.flatten()).view_as(edges);
  const at::Tensor kept = ends.ge(0).all(0).nonzero().flatten();
  return ends.index_select(1, kept);
}

}  // namespace

Icosphere restrict_to(const Icosphere& mesh, const Grid& region, double margin_degrees) {
  const at::Tensor kept = rows_near({mesh.latitude, mesh.longitude}, region, margin_degrees);
  at::Tensor new_index = at::full({mesh.size()}, -1, at::kLong);
  new_index.index_copy_(0, kept, at::arange(kept.size(0), at::kLong));

  Icosphere result{mesh.latitude.index_select(0, kept),
                   mesh.longitude.index_select(0, kept),
                   mesh.min_level,
                   {}};
  at::Tensor degree = at::zeros({kept.size(0)}, at::kLong);
  for (const at::Tensor& edges : mesh.edges) {
    result.edges.push_back(relabelled(edges, new_index));
    degree += at::bincount(result.edges.back()[1], {}, kept.size(0));
  }
  const int64_t alone = degree.eq(0).sum().item<int64_t>();
  ISOBAR_CHECK(kept.size(0) > 0 && alone == 0, "restrict_to: around ", region.name,
               " with a margin of ", margin_degrees, " degrees the icosphere of level ",
               mesh.level(), " has ", kept.size(0), " nodes, ", alone,
               " of them without an edge; raise the hidden level (hidden_level) or the margin "
               "(margin_degrees)");
  return result;
}

}  // namespace isobar
