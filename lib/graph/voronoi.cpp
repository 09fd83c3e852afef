// SPDX-License-Identifier: Apache-2.0
// Called where a grid is made and areas by Voronoi cells are asked for, on one thread. LibTorch's
// threads share the points out; a cell follows from the positions alone, whichever computes it.
//
// Each cell is cut out by itself, by the bisectors between its point and ever farther neighbours,
// until none is near enough to reach it: the radius of security of B. Levy and N. Bonneel,
// "Variational anisotropic surface meshing with Voronoi parallel linear enumeration" (2012). No
// triangulation is made, so that points on a common circle, of which these grids are full, are no
// special case: a bisector that touches a corner cuts off nothing or a sliver of no area.
#include <isobar/core/error.hpp>
#include <isobar/graph/voronoi.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "graph/chunks.hpp"
#include "graph/point_tree.hpp"

namespace isobar {
namespace {

constexpr double kCoincident = 1e-9;  // 6 mm on the Earth
constexpr double kFar = 1e4;          // a tangent: 20 seconds of arc short of 90 degrees
constexpr int64_t kFirstNeighbours = 16;

double dot(const UnitVector& a, const UnitVector& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

UnitVector cross(const UnitVector& a, const UnitVector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

/// A point of the plane that touches the sphere at the cell's point, seen from the sphere's
/// centre: great circles are straight lines in it.
using PlanePoint = std::array<double, 2>;

/// What is left of a square around a point.
class Cell {
 public:
  Cell(const UnitVector& point, double half_width)
      : point_(point),
        half_width_(half_width),
        corners_{{-half_width, -half_width},
                 {half_width, -half_width},
                 {half_width, half_width},
                 {-half_width, half_width}} {
    const auto least = static_cast<size_t>(
        std::min_element(point.begin(), point.end(),
                         [](double a, double b) { return std::abs(a) < std::abs(b); }) -
        point.begin());
    UnitVector axis{};
    axis[least] = 1;
    across_ = cross(axis, point);
    const double length = std::sqrt(dot(across_, across_));
    for (double& x : across_) x /= length;
    along_ = cross(point, across_);
  }

  /// Cuts off what is nearer to `other`.
  void cut(const UnitVector& other, double squared_chord) {
    const UnitVector step{other[0] - point_[0], other[1] - point_[1], other[2] - point_[2]};
    const double u = dot(across_, step), v = dot(along_, step), limit = squared_chord / 2;
    const auto excess = [&](const PlanePoint& p) { return u * p[0] + v * p[1] - limit; };
    kept_.clear();
    for (size_t i = 0; i < corners_.size(); ++i) {
      const PlanePoint& a = corners_[i];
      const PlanePoint& b = corners_[(i + 1) % corners_.size()];
      const double at_a = excess(a), at_b = excess(b);
      if (at_a <= 0) kept_.push_back(a);
      if ((at_a < 0 && at_b > 0) || (at_a > 0 && at_b < 0)) {
        const double t = at_a / (at_a - at_b);
        kept_.push_back({a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])});
      }
    }
    std::swap(corners_, kept_);
  }

  /// A neighbour at this squared chord or farther cuts off nothing: it is twice as far as the
  /// farthest corner.
  double squared_reach() const {
    const double square = squared_radius();
    return 4 * square / (1 + square);
  }

  bool bounded() const {
    return std::all_of(corners_.begin(), corners_.end(), [&](const PlanePoint& p) {
      return std::max(std::abs(p[0]), std::abs(p[1])) < half_width_;
    });
  }

  /// In steradians: the spherical triangles of the point and each side (A. van Oosterom and
  /// J. Strackee, "The solid angle of a plane triangle", 1983).
  double area() const {
    double sum = 0;
    for (size_t i = 0; i < corners_.size(); ++i) {
      const auto [au, av] = corners_[i];
      const auto [bu, bv] = corners_[(i + 1) % corners_.size()];
      const double a = std::sqrt(1 + au * au + av * av), b = std::sqrt(1 + bu * bu + bv * bv);
      sum += 2 * std::atan2(au * bv - av * bu, a * b + a + b + 1 + au * bu + av * bv);
    }
    return sum;
  }

 private:
  double squared_radius() const {
    double square = 0;
    for (const auto& [u, v] : corners_) square = std::max(square, u * u + v * v);
    return square;
  }

  UnitVector point_, across_, along_;
  double half_width_;
  std::vector<PlanePoint> corners_, kept_;
};

struct SharedCell {
  Cell cell;
  int64_t sharing = 0;  // coincident points
};

/// Cuts `shared` with neighbours, nearest first. False if farther ones are wanted.
bool cut(SharedCell& shared, const std::vector<UnitVector>& points,
         const std::vector<Neighbour>& near) {
  for (const Neighbour& other : near) {
    if (other.squared_chord < kCoincident * kCoincident) {
      ++shared.sharing;
    } else if (other.squared_chord < shared.cell.squared_reach()) {
      shared.cell.cut(points[other.index], other.squared_chord);
    } else {
      return true;
    }
  }
  return false;
}

SharedCell cell_of(const UnitVector& point, const std::vector<UnitVector>& points,
                   const PointTree& tree) {
  std::vector<Neighbour> near = tree.nearest(point, kFirstNeighbours);
  double chord = std::sqrt(near.back().squared_chord);
  while (true) {
    // No wider than needed at first: what is left of a wide square has its rounding.
    const bool all = near.size() == points.size();
    SharedCell shared{Cell(point, all ? kFar : 100 * chord)};
    if (cut(shared, points, near) || all) return shared;
    chord = std::max(2 * chord, 1e-6);
    near = tree.within(point, chord);
  }
}

}  // namespace

at::Tensor voronoi_area(const Positions& positions) {
  const auto points = unit_vectors(positions.latitude, positions.longitude);
  ISOBAR_CHECK(!points.empty(), "voronoi_area: there are no points");
  const PointTree tree(points);
  at::Tensor area = at::empty({std::ssize(points)}, at::kDouble);
  auto* out = area.mutable_data_ptr<double>();
  for_each_chunk(std::ssize(points), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const SharedCell shared = cell_of(points[i], points, tree);
      ISOBAR_CHECK(shared.cell.bounded(), "voronoi_area: the cell of point ", i, " at ",
                   positions.latitude[i].item<double>(), " N ",
                   positions.longitude[i].item<double>(),
                   " E reaches 90 degrees; wanted points over the whole sphere");
      out[i] = shared.cell.area() / static_cast<double>(shared.sharing);
    }
  });
  const double whole = chunked_sum(std::ssize(points), [&](int64_t begin, int64_t end) {
    return std::accumulate(out + begin, out + end, 0.0);
  });
  return area / whole;
}

}  // namespace isobar
