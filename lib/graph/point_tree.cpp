// SPDX-License-Identifier: Apache-2.0
#include "graph/point_tree.hpp"

#include <nanoflann.hpp>

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

/// What nanoflann asks of a set of points.
struct Cloud {
  std::vector<UnitVector> points;

  size_t kdtree_get_point_count() const { return points.size(); }
  double kdtree_get_pt(size_t i, size_t axis) const { return points[i][axis]; }
  template <typename Box>
  bool kdtree_get_bbox(Box&) const {
    return false;
  }
};

using Tree = nanoflann::KDTreeSingleIndexAdaptor<nanoflann::L2_Simple_Adaptor<double, Cloud>, Cloud,
                                                 3, size_t>;

}  // namespace

struct PointTree::Impl {
  explicit Impl(std::vector<UnitVector> points)
      : cloud{std::move(points)}, tree(3, cloud, nanoflann::KDTreeSingleIndexAdaptorParams(16)) {}

  Cloud cloud;
  Tree tree;
};

PointTree::PointTree(std::vector<UnitVector> points)
    : impl_(std::make_unique<Impl>(std::move(points))) {}

PointTree::~PointTree() = default;

std::vector<Neighbour> PointTree::nearest(const UnitVector& from, int64_t count) const {
  std::vector<size_t> indices(count);
  std::vector<double> distances(count);
  const size_t found =
      impl_->tree.knnSearch(from.data(), indices.size(), indices.data(), distances.data());
  std::vector<Neighbour> result(found);
  for (size_t i = 0; i < found; ++i) {
    result[i] = {distances[i], static_cast<int64_t>(indices[i])};
  }
  return result;
}

std::vector<Neighbour> PointTree::within(const UnitVector& from, double chord) const {
  std::vector<std::pair<size_t, double>> found;
  impl_->tree.radiusSearch(from.data(), chord * chord, found,
                           nanoflann::SearchParams(/*checks=*/32, /*eps=*/0, /*sorted=*/false));
  std::vector<Neighbour> result(found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    result[i] = {found[i].second, static_cast<int64_t>(found[i].first)};
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace isobar
