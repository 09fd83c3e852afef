// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/grid.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "graph/axes.hpp"

namespace isobar::latlon_grid_test {
namespace {

using test::axis;

double sum_of(const at::Tensor& t) { return t.sum().item<double>(); }

TEST(LatLonGrid, OrdersPointsByLatitudeAsGiven) {
  const Grid grid = make_latlon_grid({60, 50}, {-10, 0, 10});

  EXPECT_EQ(grid.size(), 6);
  EXPECT_EQ(grid.latitude[2].item<double>(), 60);
  EXPECT_EQ(grid.latitude[3].item<double>(), 50);
  EXPECT_EQ(grid.longitude[3].item<double>(), -10);
  EXPECT_EQ(grid.longitude[5].item<double>(), 10);
  EXPECT_EQ(grid.name, "latlon-2x3");
}

TEST(LatLonGrid, TellsARegionFromTheGlobe) {
  EXPECT_TRUE(make_latlon_grid(axis(49.75, 0.25, 33), axis(-8, 0.25, 49)).regional);
  EXPECT_FALSE(make_latlon_grid(axis(90, -1, 181), axis(0, 1, 360)).regional);
  EXPECT_FALSE(make_latlon_grid(axis(89.5, -1, 180), axis(-179.5, 1, 360)).regional);
  EXPECT_TRUE(make_latlon_grid(axis(60, -1, 121), axis(0, 1, 360)).regional) << "no poles";
  EXPECT_TRUE(make_latlon_grid(axis(90, -1, 181), axis(0, 1, 300)).regional) << "open circle";
}

TEST(LatLonGrid, JudgesAnOpenCircleByItsUsualSpacing) {
  auto bands = axis(-160, 10, 10);
  for (const double value : axis(0, 10, 10)) bands.push_back(value);
  EXPECT_TRUE(make_latlon_grid(axis(90, -10, 19), bands).regional) << "a gap of 70 degrees";
  auto gap = axis(90, -10, 9);
  for (const double value : axis(-30, -10, 3)) gap.push_back(value);
  EXPECT_TRUE(make_latlon_grid(gap, axis(0, 10, 36)).regional) << "40 degrees from the pole";
  EXPECT_TRUE(make_latlon_grid(axis(90, -10, 19), axis(0, 10, 35)).regional) << "one is missing";
}

TEST(LatLonGrid, GivesEachCellItsIntegral) {
  // Rows bounded by the equator and 45 degrees north; the northern one is clipped at the pole.
  const Grid grid = make_latlon_grid({22.5, 67.5}, {0, 10, 30});
  const double low = std::numbers::sqrt2 / 2;
  const double widths[] = {10, 15, 20};

  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(grid.area[i].item<double>(), low * widths[i] / 45, 1e-15);
    EXPECT_NEAR(grid.area[3 + i].item<double>(), (1 - low) * widths[i] / 45, 1e-15);
  }
}

TEST(LatLonGrid, HalvesTheRowsOnThePoles) {
  const Grid grid = make_latlon_grid(axis(90, -90, 3), axis(0, 90, 4));
  const double cap = (1 - std::numbers::sqrt2 / 2) / 2;

  EXPECT_NEAR(grid.area[0].item<double>(), cap / 4, 1e-15);
  EXPECT_NEAR(sum_of(grid.area), 1, 1e-15);
}

TEST(LatLonGrid, ExtendsTheLastRowsOfTheGlobeToThePoles) {
  const Grid grid = make_latlon_grid({50, 0, -50}, axis(0, 90, 4));

  EXPECT_FALSE(grid.regional);
  EXPECT_NEAR(grid.area[0].item<double>(), 0.25 * 0.5 * (1 - std::sin(25 * std::numbers::pi / 180)),
              1e-15);
}

TEST(LatLonGrid, StepsOverTheDateLine) {
  const Grid here = make_latlon_grid({10, 20}, {350, 355, 0, 5});
  const Grid there = make_latlon_grid({10, 20}, {100, 105, 110, 115});

  EXPECT_TRUE(at::allclose(here.area, there.area, 0, 1e-15));
  EXPECT_TRUE(here.regional);
}

TEST(LatLonGrid, WeighsColumnsAlikeInARegionOfMostOfTheGlobe) {
  auto longitudes = axis(60, 5, 24);  // to 175, and on from -180 to -60
  for (const double value : axis(-180, 5, 25)) longitudes.push_back(value);
  const Grid grid = make_latlon_grid(axis(60, -5, 25), longitudes);

  EXPECT_TRUE(grid.regional);
  const at::Tensor columns = grid.area.view({25, 49}).sum(0);
  EXPECT_TRUE(at::allclose(columns, at::full_like(columns, 1.0 / 49), 0, 1e-14));
}

TEST(LatLonGrid, RejectsAxesThatAreNone) {
  EXPECT_THROW(make_latlon_grid({10}, {0, 1}), UsageError);
  EXPECT_THROW(make_latlon_grid({10, 20, 15}, {0, 1}), UsageError);
  EXPECT_THROW(make_latlon_grid({80, 100}, {0, 1}), UsageError);
  EXPECT_THROW(make_latlon_grid({10, std::nan("")}, {0, 1}), UsageError);
  EXPECT_THROW(make_latlon_grid({10, 20}, {0, 1, 1}), UsageError);
  EXPECT_THROW(make_latlon_grid(axis(90, -1, 181), axis(0, 1, 361)), UsageError);
}

}  // namespace
}  // namespace isobar::latlon_grid_test
