// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/data_file.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <limits>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::data_file_test {
namespace {

/// t changes from time to time, lsm does not, one is 1 everywhere.
std::string write(const test::TemporaryFolder& folder, int missing_hour = -1) {
  const auto path = (folder / "a.nc").string();
  const auto value = [=](int variable, double hour, int64_t point) {
    if (variable == 0 && hour == missing_hour && point == 0) {
      return std::numeric_limits<double>::quiet_NaN();
    }
    const auto p = static_cast<double>(point);
    return variable == 0 ? 280 + hour + p : variable == 1 ? p : 1;
  };
  test::write_weather(
      path, {.variables = {"t", "lsm", "one"}, .hours = {0, 6, 12, 18, 24, 36}, .value = value});
  return path;
}

TEST(DataFile, SortsVariablesByWhetherTheyChange) {
  const test::TemporaryFolder folder;
  const auto file = examine_data_file(write(folder));
  EXPECT_EQ(file.changing, std::vector<std::string>{"t"});
  EXPECT_EQ(file.constant, std::vector<std::string>{"lsm"});
  EXPECT_EQ(file.left_out.at("one"), "has one value everywhere");
  EXPECT_EQ(file.times.size(), 6U);
  EXPECT_EQ(file.spacing_seconds(), 6 * kHourSeconds);
  EXPECT_FALSE(file.has_missing);
}

TEST(DataFile, SeesValuesThatAreMissingLater) {
  const test::TemporaryFolder folder;
  for (const int hour : {0, 36}) EXPECT_TRUE(examine_data_file(write(folder, hour)).has_missing);
}

/// a_mask has no time, and comes before t by its name.
void write_mask(const std::string& path) {
  test::NcWriter writer(path, {{"time", 3}, {"latitude", 2}, {"longitude", 3}});
  const auto add = [&](const std::string& name, const std::vector<std::string>& dimensions,
                       const std::vector<double>& values, const std::string& units) {
    writer.add({.name = name, .dimensions = dimensions, .values = values});
    writer.text(name, "units", units);
  };
  add("time", {"time"}, {0, 6, 12}, "hours since 2019-03-01");
  add("latitude", {"latitude"}, {10, 0}, "degrees_north");
  add("longitude", {"longitude"}, {0, 10, 20}, "degrees_east");
  std::vector<double> values;
  for (int i = 0; i < 18; ++i) values.push_back(i * i);
  add("a_mask", {"latitude", "longitude"}, {0, 1, 0, 1, 0, 1}, "1");
  add("t", {"time", "latitude", "longitude"}, values, "K");
  for (const char* name : {"a_mask", "t"}) writer.attach_dimensions(name);
}

TEST(DataFile, TakesAMaskWithoutATimeWhateverItsName) {
  const test::TemporaryFolder folder;
  const auto path = (folder / "mask.nc").string();
  write_mask(path);
  const auto file = examine_data_file(path);
  EXPECT_EQ(file.changing, std::vector<std::string>{"t"});
  EXPECT_EQ(file.constant, std::vector<std::string>{"a_mask"});
  EXPECT_TRUE(file.left_out.empty());
}

TEST(DataFile, NamesWhyNothingCanBeTrainedOn) {
  const test::TemporaryFolder folder;
  const auto path = (folder / "a.nc").string();
  test::write_weather(path, {.hours = {0}});
  EXPECT_EQ(test::message_of<DataError>([&] { examine_data_file(path); }),
            path + ": no variable lies on times, latitudes and longitudes; 't': has one time only");
}

TEST(DataFile, HasAxesWhateverItsTimes) {
  const test::TemporaryFolder folder;
  const auto path = (folder / "levels.nc").string();
  test::write_with_levels(path);
  const auto axes = find_grid_axes(path);
  ASSERT_TRUE(axes.has_value()) << "none of the levels is chosen, and none is wanted";
  EXPECT_EQ(axes->latitudes, (std::vector<double>{50, 49}));
  EXPECT_EQ(axes->longitudes, (std::vector<double>{0, 1}));
  test::NcWriter((folder / "none.nc").string(), {{"x", 2}})
      .add({.name = "x", .dimensions = {"x"}, .values = {1, 2}});
  EXPECT_FALSE(find_grid_axes((folder / "none.nc").string()).has_value());
}

}  // namespace
}  // namespace isobar::data_file_test
