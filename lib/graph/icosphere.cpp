// SPDX-License-Identifier: Apache-2.0
// Called by build_graph(), on one thread.
//
// A mesh holds the nodes of all coarser ones: subdivision keeps the indices of the old nodes and
// makes the middle of a side once for its two faces, so that the faces of every level index the
// same nodes and no node is there twice. The order in which nodes come about is an accident.
// Partitions into bands rely on one from north to south, by positions that are rounded well above
// their last bits: else nodes of one parallel would be in the order of their rounding errors.
#include <isobar/core/error.hpp>
#include <isobar/graph/icosphere.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <unordered_map>

#include "graph/sphere.hpp"

namespace isobar {
namespace {

using Face = std::array<int64_t, 3>;

constexpr int64_t kLargestLevel = 10;

struct Mesh {
  std::vector<UnitVector> nodes;
  std::vector<Face> faces;
};

UnitVector normalised(const UnitVector& v) {
  const double length = std::hypot(v[0], v[1], v[2]);
  return {v[0] / length, v[1] / length, v[2] / length};
}

Mesh icosahedron() {
  constexpr double phi = std::numbers::phi;
  Mesh mesh{{{-1, phi, 0},
             {1, phi, 0},
             {-1, -phi, 0},
             {1, -phi, 0},
             {0, -1, phi},
             {0, 1, phi},
             {0, -1, -phi},
             {0, 1, -phi},
             {phi, 0, -1},
             {phi, 0, 1},
             {-phi, 0, -1},
             {-phi, 0, 1}},
            {{0, 11, 5},  {0, 5, 1},  {0, 1, 7},  {0, 7, 10}, {0, 10, 11}, {1, 5, 9}, {5, 11, 4},
             {11, 10, 2}, {10, 7, 6}, {7, 1, 8},  {3, 9, 4},  {3, 4, 2},   {3, 2, 6}, {3, 6, 8},
             {3, 8, 9},   {4, 9, 5},  {2, 4, 11}, {6, 2, 10}, {8, 6, 7},   {9, 8, 1}}};
  std::transform(mesh.nodes.begin(), mesh.nodes.end(), mesh.nodes.begin(), normalised);
  return mesh;
}

/// Splits every face in four; the old nodes keep their indices.
class Subdivision {
 public:
  explicit Subdivision(Mesh& mesh) : mesh_(mesh) {}

  void run() {
    std::vector<Face> finer;
    finer.reserve(4 * mesh_.faces.size());
    for (const auto& [a, b, c] : mesh_.faces) {
      const int64_t ab = middle(a, b), bc = middle(b, c), ca = middle(c, a);
      finer.insert(finer.end(), {{a, ab, ca}, {b, bc, ab}, {c, ca, bc}, {ab, bc, ca}});
    }
    mesh_.faces = std::move(finer);
  }

 private:
  int64_t middle(int64_t a, int64_t b) {
    const auto [low, high] = std::minmax(a, b);
    const auto [entry, is_new] =
        middles_.try_emplace((low << 32) | high, static_cast<int64_t>(mesh_.nodes.size()));
    if (is_new) {
      const UnitVector p = mesh_.nodes[a], q = mesh_.nodes[b];
      mesh_.nodes.push_back(normalised({p[0] + q[0], p[1] + q[1], p[2] + q[2]}));
    }
    return entry->second;
  }

  Mesh& mesh_;
  std::unordered_map<int64_t, int64_t> middles_;
};

struct Location {
  double latitude;   // degrees
  double longitude;  // degrees, in (-180, 180]
};

Location locate(const UnitVector& v) {
  // Coordinates that are zero but for rounding would put a pole on any meridian, and a node of
  // the date line on either side of it.
  constexpr double zero = 1e-14;
  const double x = std::abs(v[0]) < zero ? 0.0 : v[0];
  const double y = std::abs(v[1]) < zero ? 0.0 : v[1];
  return {std::atan2(v[2], std::hypot(x, y)) / kRadiansPerDegree,
          std::atan2(y, x) / kRadiansPerDegree};
}

/// The order of nodes from north to south, then from east to west.
std::vector<int64_t> north_to_south(const std::vector<Location>& locations) {
  std::vector<int64_t> order(locations.size());
  std::iota(order.begin(), order.end(), 0);
  // Nodes of one parallel differ in the last bits of their latitude: compare it rounded.
  const auto key = [&](int64_t i) {
    return std::pair(-std::llround(locations[i].latitude * 1e9), -locations[i].longitude);
  };
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) < key(b); });
  return order;
}

/// [2, 3F] each side of each face once a direction: two faces share a side and run along it in
/// opposite directions.
at::Tensor sides(const std::vector<Face>& faces, const std::vector<int64_t>& position) {
  std::vector<int64_t> source, destination;
  for (const Face& face : faces) {
    for (size_t k = 0; k < 3; ++k) {
      source.push_back(position[face[k]]);
      destination.push_back(position[face[(k + 1) % 3]]);
    }
  }
  return at::stack({to_tensor(source), to_tensor(destination)});
}

}  // namespace

Icosphere make_icosphere(const IcosphereOptions& options) {
  ISOBAR_CHECK(options.level >= 0 && options.level <= kLargestLevel,
               "make_icosphere: level must be 0 to ", kLargestLevel, ", got ", options.level);
  ISOBAR_CHECK(options.min_level >= 0 && options.min_level <= options.level,
               "make_icosphere: min_level must be 0 to the level ", options.level, ", got ",
               options.min_level);
  Mesh mesh = icosahedron();
  std::vector<std::vector<Face>> faces = {mesh.faces};
  for (int64_t level = 1; level <= options.level; ++level) {
    Subdivision(mesh).run();
    faces.push_back(mesh.faces);
  }

  std::vector<Location> locations(mesh.nodes.size());
  std::transform(mesh.nodes.begin(), mesh.nodes.end(), locations.begin(), locate);
  const std::vector<int64_t> order = north_to_south(locations);
  std::vector<double> latitude(order.size()), longitude(order.size());
  std::vector<int64_t> position(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    latitude[i] = locations[order[i]].latitude;
    longitude[i] = locations[order[i]].longitude;
    position[order[i]] = static_cast<int64_t>(i);
  }

  Icosphere result{to_tensor(latitude), to_tensor(longitude), options.min_level, {}};
  for (int64_t level = options.min_level; level <= options.level; ++level) {
    result.edges.push_back(sides(faces[level], position));
  }
  return result;
}

}  // namespace isobar
