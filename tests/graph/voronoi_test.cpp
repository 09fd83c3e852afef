// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/voronoi.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "graph/axes.hpp"
#include "graph/sphere.hpp"

namespace isobar::voronoi_test {
namespace {

Positions at_degrees(std::vector<double> latitude, std::vector<double> longitude) {
  return {to_tensor(latitude), to_tensor(longitude)};
}

Positions positions(const Grid& grid) { return {grid.latitude, grid.longitude}; }

at::Tensor even(int64_t count) { return at::full({count}, 1. / count, at::kDouble); }

void expect_close(const at::Tensor& got, const at::Tensor& wanted, double tolerance) {
  EXPECT_LT((got - wanted).abs().max().item<double>(), tolerance) << got.slice(0, 0, 20);
}

TEST(VoronoiArea, IsEvenForTheCornersOfRegularBodies) {
  const Positions octahedron = at_degrees({90, 0, 0, 0, 0, -90}, {0, 0, 90, 180, 270, 0});
  const double cube = std::atan(1 / std::numbers::sqrt2) * 180 / std::numbers::pi;
  const Positions tetrahedron = at_degrees({cube, cube, -cube, -cube}, {45, 225, 135, 315});
  const Positions corners = at_degrees({cube, cube, cube, cube, -cube, -cube, -cube, -cube},
                                       {45, 135, 225, 315, 45, 135, 225, 315});

  expect_close(voronoi_area(octahedron), even(6), 1e-12);
  expect_close(voronoi_area(tetrahedron), even(4), 1e-12);
  expect_close(voronoi_area(corners), even(8), 1e-12);
}

TEST(VoronoiArea, IsTheAreaOfCapsAndBeltsByHand) {
  // Two poles and a dense equator: caps beyond 45 degrees, and a belt.
  const int around = 720;
  std::vector<double> latitude(around, 0.0), longitude = test::axis(0, 0.5, around);
  latitude.insert(latitude.end(), {90, -90});
  longitude.insert(longitude.end(), {0, 0});
  const at::Tensor area = voronoi_area(at_degrees(latitude, longitude));
  const double cap = (1 - std::numbers::sqrt2 / 2) / 2;

  EXPECT_NEAR(area[around].item<double>(), cap, 1e-5);
  EXPECT_NEAR(area[0].item<double>(), (1 - 2 * cap) / around, 1e-7);
  EXPECT_NEAR(area.sum().item<double>(), 1, 1e-14);
}

TEST(VoronoiArea, IsTheSameForAllNodesThatSymmetryTakesToEachOther) {
  // Level 1: 12 corners and 30 middles of sides.
  const Icosphere mesh = make_icosphere({.level = 1});
  const at::Tensor area = std::get<0>(voronoi_area({mesh.latitude, mesh.longitude}).sort());

  expect_close(area.slice(0, 0, 12), area[0].expand(12), 1e-14);
  expect_close(area.slice(0, 12), area[12].expand(30), 1e-14);
  EXPECT_GT(area[12].item<double>(), area[0].item<double>() * 1.1);
  const Icosphere level0 = make_icosphere({.level = 0, .min_level = 0});
  expect_close(voronoi_area({level0.latitude, level0.longitude}), even(12), 1e-12);
}

TEST(VoronoiArea, AgreesWithTheShareOfRandomPointsNearest) {
  // Cells of irregular points: counted with 200,000 points on a spiral.
  const at::Tensor u = at::arange(60, at::kDouble);
  const Positions points{(((u * 0.754877666).remainder(1) * 2 - 1).asin() * (180 / M_PI)),
                         (u * 0.569840296).remainder(1) * 360};
  const int64_t count = 200000;
  const at::Tensor k = at::arange(count, at::kDouble);
  const Positions spiral{((2 * k + 1) / count - 1).asin() * (180 / M_PI),
                         (k * 0.6180339887498949).remainder(1) * 360};
  const at::Tensor nearest = nearest_edges(points, spiral, 1).source;
  const at::Tensor share = at::bincount(nearest, {}, 60).to(at::kDouble) / count;

  expect_close(voronoi_area(points), share, 2e-4);
}

TEST(VoronoiArea, SharesTheCellOfCoincidentPoints) {
  const Grid poles = make_latlon_grid(test::axis(90, -10, 19), test::axis(0, 2, 180));
  const at::Tensor area = voronoi_area(positions(poles));
  // Its first ring is at 80 degrees: nearly a cap of 5 degrees.
  const double cap = (1 - std::cos(5 * std::numbers::pi / 180)) / 2;

  EXPECT_NEAR(area.sum().item<double>(), 1, 1e-14);
  expect_close(area.slice(0, 0, 180), even(180) * cap, 2e-9);
  EXPECT_NEAR(area[0].item<double>(), area[18 * 180].item<double>(), 1e-16);
}

TEST(VoronoiArea, IsCloseToTheCellsOfALatitudeLongitudeGrid) {
  // Bisectors between neighbours of one parallel are meridians; between rows they sag by less than
  // a cell, most near the poles.
  const Grid grid = make_latlon_grid(test::axis(89, -2, 90), test::axis(0, 2, 180));
  const at::Tensor ratio = voronoi_area(positions(grid)) / grid.area;

  EXPECT_LT((ratio - 1).abs().max().item<double>(), 1e-3);
}

TEST(VoronoiArea, DoesNotDependOnTheNumberOfThreads) {
  const Icosphere mesh = make_icosphere({.level = 5});
  const Positions nodes{mesh.latitude, mesh.longitude};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = voronoi_area(nodes);
  at::set_num_threads(3);
  const at::Tensor three = voronoi_area(nodes);
  at::set_num_threads(threads);

  EXPECT_TRUE(at::equal(one, three));
}

TEST(VoronoiArea, RejectsPointsThatLeaveHalfTheSphereEmpty) {
  const Grid region = make_latlon_grid(test::axis(58, -0.25, 33), test::axis(-10, 0.25, 49));

  EXPECT_THROW(voronoi_area(positions(region)), UsageError);
  EXPECT_THROW(voronoi_area(at_degrees({10}, {20})), UsageError);
  EXPECT_THROW(voronoi_area(at_degrees({}, {})), UsageError);
}

}  // namespace
}  // namespace isobar::voronoi_test
