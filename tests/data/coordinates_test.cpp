// SPDX-License-Identifier: Apache-2.0
// Grids as files have them, through a data set.
#include "data/coordinates.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <numbers>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::coordinates_test {
namespace {

using test::message_of;
using test::NcWriter;
using test::TemporaryFolder;
using Values = std::vector<double>;

/// A grid to write, and how.
struct GridFile {
  Values latitudes = {50, 49};
  Values longitudes = {-1, 0, 1};
  std::string latitude_units = "degrees_north";
  std::string longitude_units = "degrees_east";
  hid_t type = H5T_IEEE_F64LE;
  std::string latitude = "latitude";
  std::string standard_name = {};  // of the latitude
};

/// A variable v that holds at each point its column in the file.
void write(const std::string& path, const GridFile& grid) {
  NcWriter writer(
      path,
      {{grid.latitude, grid.latitudes.size()}, {"longitude", grid.longitudes.size()}, {"time", 1}});
  writer.add({.name = "time", .dimensions = {"time"}, .values = {0}});
  writer.text("time", "units", "hours since 2019-03-01");
  const auto axis = [&](const std::string& name, const Values& values, const std::string& units) {
    writer.add({.name = name, .dimensions = {name}, .values = values, .type = grid.type});
    if (!units.empty()) writer.text(name, "units", units);
  };
  axis(grid.latitude, grid.latitudes, grid.latitude_units);
  axis("longitude", grid.longitudes, grid.longitude_units);
  if (!grid.standard_name.empty()) {
    writer.text(grid.latitude, "standard_name", grid.standard_name);
  }
  Values columns;
  for (std::size_t row = 0; row < grid.latitudes.size(); ++row) {
    for (std::size_t column = 0; column < grid.longitudes.size(); ++column) {
      columns.push_back(static_cast<double>(column));
    }
  }
  writer.add({.name = "v", .dimensions = {"time", grid.latitude, "longitude"}, .values = columns});
  writer.attach_dimensions("v");
}

Dataset read(const GridFile& grid) {
  const TemporaryFolder folder;
  write(folder / "a.nc", grid);
  return Dataset({.paths = {folder / "a.nc"}, .variables = {"v"}});
}

std::string refusal(const GridFile& grid) {
  return message_of<DataError>([&] { read(grid); });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The columns of the file in the order in which the data set has them.
std::vector<float> columns(const Dataset& dataset) {
  const at::Tensor row =
      dataset.read(0).flatten().narrow(0, 0, static_cast<int64_t>(dataset.longitudes().size()));
  return {row.data_ptr<float>(), row.data_ptr<float>() + row.numel()};
}

Values steps(double first, double step, int count) {
  Values values;
  for (int i = 0; i < count; ++i) values.push_back(first + step * i);
  return values;
}

TEST(Longitudes, StartAfterTheLargestGapOfARegion) {
  const auto east = [](const Values& longitudes) { return read({.longitudes = longitudes}); };
  const auto pacific = east({166, 172, 178, 184, 190});
  EXPECT_EQ(pacific.longitudes(), (Values{166, 172, 178, -176, -170}));
  EXPECT_EQ(columns(pacific), (std::vector<float>{0, 1, 2, 3, 4}));
  const auto signs = east({-176, -170, 166, 172, 178});
  EXPECT_EQ(signs.longitudes(), pacific.longitudes());
  EXPECT_EQ(columns(signs), (std::vector<float>{2, 3, 4, 0, 1}));
  const auto wide = east(steps(60, 5, 49));
  EXPECT_EQ(wide.longitudes().front(), 60);
  EXPECT_EQ(wide.longitudes().back(), -60);
  EXPECT_EQ(columns(wide).back(), 48);
  EXPECT_EQ(east({352, 356, 0, 4}).longitudes(), (Values{-8, -4, 0, 4}));
  EXPECT_TRUE(pacific.warnings().empty() && wide.warnings().empty());
}

TEST(Longitudes, StartAt180DegreesOfAGlobe) {
  for (const double first : {0., -180., 90., 7.5}) {
    const auto globe = read({.longitudes = steps(first, 15, 24)});
    EXPECT_LT(globe.longitudes().front(), -165) << first;
    EXPECT_TRUE(std::is_sorted(globe.longitudes().begin(), globe.longitudes().end())) << first;
  }
}

TEST(Longitudes, AreRefusedWhereTheCircleEndsAsItBegan) {
  const auto says = [](double last, hid_t type) {
    Values longitudes = steps(0, 10, 36);
    longitudes.push_back(last);
    return refusal({.longitudes = longitudes, .type = type});
  };
  EXPECT_TRUE(contains(says(360, H5T_IEEE_F64LE), "'longitude' has 0 degrees twice"));
  EXPECT_TRUE(contains(says(359.99997, H5T_IEEE_F32LE), "'longitude' has 0 degrees twice"));
  Values halves = steps(-180, 10, 36);
  halves.push_back(179.99998);
  EXPECT_TRUE(contains(refusal({.longitudes = halves}), "'longitude' has -180 degrees twice"));
  EXPECT_TRUE(contains(refusal({.latitudes = {10, 20, 20.000001}}), "degrees twice"));
}

TEST(Longitudes, TellOfAGapWithinARegion) {
  Values bands = steps(0, 10, 10);
  for (const double value : steps(200, 10, 10)) bands.push_back(value);
  const auto dataset = read({.longitudes = bands});
  EXPECT_EQ(dataset.longitudes().front(), -160);
  ASSERT_EQ(dataset.warnings().size(), 1);
  EXPECT_TRUE(contains(dataset.warnings()[0],
                       "'longitude' has a gap between -70 and 0 degrees, where values are usually "
                       "10 apart"))
      << dataset.warnings()[0];
  EXPECT_EQ(read({.latitudes = {80, 70, 60, 30, 20}}).warnings().size(), 1);
  const auto stretched = read({.latitudes = {80, 75, 69, 62, 54, 45, 35, 24}});
  EXPECT_TRUE(stretched.warnings().empty()) << "spacings that grow are no gap";
}

TEST(Latitudes, AreOnThePoleWithinRounding) {
  const auto dataset = read({.latitudes = {90.00001, 0, -90.00001}, .type = H5T_IEEE_F32LE});
  EXPECT_EQ(dataset.latitudes(), (Values{90, 0, -90}));
  EXPECT_TRUE(contains(refusal({.latitudes = {90.001, 0}}), "'latitude' has 90.001 degrees"));
}

TEST(Axes, AreReadInRadians) {
  const double degree = std::numbers::pi / 180;
  const auto dataset = read({.latitudes = {50 * degree, 49 * degree},
                             .longitudes = {-1 * degree, 0, 1 * degree},
                             .latitude_units = "radian",
                             .longitude_units = "radians"});
  EXPECT_NEAR(dataset.latitudes()[1], 49, 1e-12);
  EXPECT_NEAR(dataset.longitudes()[0], -1, 1e-12);
}

TEST(Axes, ThatCountWestwardAreTurned) {
  const auto dataset = read({.longitudes = {10, 9, 8}, .longitude_units = "degrees_west"});
  EXPECT_EQ(dataset.longitudes(), (Values{-10, -9, -8}));
}

TEST(Axes, WithoutUnitsAreTakenForDegreesWithAWord) {
  const auto dataset = read({.latitude_units = "", .longitude_units = ""});
  EXPECT_EQ(dataset.latitudes(), (Values{50, 49}));
  ASSERT_EQ(dataset.warnings().size(), 2);
  EXPECT_TRUE(contains(dataset.warnings()[0], "'latitude' has no units: degrees are assumed"));
}

TEST(Axes, ThatSeemToHaveChangedPlacesAreTold) {
  // By their units: what is called longitude counts northward.
  const auto swapped = read({.latitude_units = "degrees_east", .longitude_units = "degrees_north"});
  EXPECT_EQ(swapped.latitudes(), (Values{1, 0, -1}));
  ASSERT_EQ(swapped.warnings().size(), 2);
  EXPECT_TRUE(contains(swapped.warnings()[0],
                       "latitude 'longitude' has the name of a longitude; check that the axes"))
      << swapped.warnings()[0];
  EXPECT_TRUE(contains(swapped.warnings()[1], "longitude 'latitude' has the name of a latitude"));
  const auto odd = read({.latitude_units = "degrees_east", .standard_name = "latitude"});
  EXPECT_EQ(odd.latitudes(), (Values{50, 49})) << "the standard name decides";
  ASSERT_EQ(odd.warnings().size(), 1);
  EXPECT_TRUE(contains(odd.warnings()[0], "has the units (degrees_east) of a longitude"))
      << odd.warnings()[0];
}

TEST(Axes, InOtherUnitsAreRefused) {
  EXPECT_TRUE(contains(refusal({.latitude_units = "m"}), "'latitude' is in 'm'; wanted degrees"));
  EXPECT_TRUE(contains(refusal({.longitude_units = "1"}), "'longitude' is in '1'"));
}

TEST(Axes, OfAProjectionAreRefused) {
  EXPECT_TRUE(contains(refusal({.latitude_units = "m", .latitude = "y"}),
                       "variable 'v' has no latitude coordinate among its dimensions"));
  EXPECT_TRUE(contains(
      refusal({.latitude_units = "degrees", .latitude = "lat", .standard_name = "grid_latitude"}),
      "has no latitude coordinate"));
}

}  // namespace
}  // namespace isobar::coordinates_test
