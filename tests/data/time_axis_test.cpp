// SPDX-License-Identifier: Apache-2.0
// When fields are valid, through a data set.
#include "data/time_axis.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <isobar/data/dataset.hpp>
#include <cmath>
#include <numeric>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::time_axis_test {
namespace {

using test::message_of;
using test::NcWriter;
using test::TemporaryFolder;
using Values = std::vector<double>;
using Names = std::vector<std::string>;

constexpr const char* kHours = "hours since 2019-03-01";

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<int64_t> hours(const Dataset& dataset) {
  std::vector<int64_t> result;
  for (const int64_t time : dataset.times()) {
    result.push_back((time - parse_time("2019-03-01")) / kHourSeconds);
  }
  return result;
}

/// A file of one point, whose variable v counts from 0 in the order in which it is stored.
class Forecasts : public testing::Test {
 protected:
  void coordinate(const std::string& name, const Names& dimensions, const Values& values,
                  const std::string& standard_name, const std::string& units) {
    variables_.push_back({name, dimensions, values, standard_name, units});
  }

  Dataset read(std::map<std::string, hsize_t> lengths, Names dimensions,
               const DatasetOptions& options = {}) {
    {
      lengths.insert({{"latitude", 1}, {"longitude", 1}});
      NcWriter writer(folder_ / "a.nc", lengths);
      coordinate("latitude", {"latitude"}, {50}, "latitude", "degrees_north");
      coordinate("longitude", {"longitude"}, {1}, "longitude", "degrees_east");
      std::string beside;
      hsize_t count = 1;
      for (const std::string& name : dimensions) count *= lengths.at(name);
      for (const auto& c : variables_) {
        writer.add({.name = c.name,
                    .dimensions = c.dimensions,
                    .values = c.values,
                    .type = H5T_IEEE_F64LE});
        if (!c.standard_name.empty()) writer.text(c.name, "standard_name", c.standard_name);
        if (!c.units.empty()) writer.text(c.name, "units", c.units);
        if (c.dimensions != Names{c.name}) beside += " " + c.name;
      }
      for (const auto& length : lengths) {
        const bool known = std::any_of(variables_.begin(), variables_.end(),
                                       [&](const auto& c) { return c.name == length.first; });
        if (!known) writer.dimension_only(length.first);
      }
      for (const auto& c : variables_) {
        if (!c.dimensions.empty() && c.dimensions != Names{c.name}) {
          writer.attach_dimensions(c.name);
        }
      }
      dimensions.insert(dimensions.end(), {"latitude", "longitude"});
      Values values(count);
      std::iota(values.begin(), values.end(), 0);
      writer.add({.name = "v", .dimensions = dimensions, .values = values});
      writer.attach_dimensions("v");
      if (!beside.empty()) writer.text("v", "coordinates", beside);
    }
    DatasetOptions all = options;
    all.paths = {folder_ / "a.nc"};
    all.variables = {"v"};
    return Dataset(all);
  }

  static std::vector<float> values(const Dataset& dataset) {
    std::vector<float> result;
    for (int64_t i = 0; i < static_cast<int64_t>(dataset.times().size()); ++i) {
      result.push_back(dataset.read(i).item<float>());
    }
    return result;
  }

 private:
  struct Coordinate {
    std::string name;
    Names dimensions;
    Values values;
    std::string standard_name;
    std::string units;
  };
  TemporaryFolder folder_;
  std::vector<Coordinate> variables_;
};

TEST_F(Forecasts, OfOneStepAreAtTheirValidTimes) {
  coordinate("time", {"time"}, {0, 1, 2}, "forecast_reference_time", kHours);
  coordinate("step", {"step"}, {6}, "forecast_period", "hours");
  coordinate("valid_time", {"time", "step"}, {6, 7, 8}, "time", kHours);
  const auto dataset = read({{"time", 3}, {"step", 1}}, {"time", "step"});
  EXPECT_EQ(hours(dataset), (std::vector<int64_t>{6, 7, 8}));
  EXPECT_EQ(values(dataset), (std::vector<float>{0, 1, 2}));
}

TEST_F(Forecasts, OfOneRunAreAtTheirValidTimes) {
  coordinate("time", {}, {5}, "forecast_reference_time", kHours);
  coordinate("step", {"step"}, {0, 1, 2}, "forecast_period", "hours");
  coordinate("valid_time", {"step"}, {5, 6, 7}, "time", kHours);
  EXPECT_EQ(hours(read({{"step", 3}}, {"step"})), (std::vector<int64_t>{5, 6, 7}));
}

TEST_F(Forecasts, OfSeveralRunsFollowEachOtherInTime) {
  coordinate("time", {"time"}, {0, 12}, "forecast_reference_time", kHours);
  coordinate("step", {"step"}, {4, 8, 12}, "forecast_period", "hours");
  coordinate("valid_time", {"time", "step"}, {4, 8, 12, 16, 20, 24}, "time", kHours);
  const auto dataset = read({{"time", 2}, {"step", 3}}, {"step", "time"});
  EXPECT_EQ(hours(dataset), (std::vector<int64_t>{4, 8, 12, 16, 20, 24}));
  EXPECT_EQ(values(dataset), (std::vector<float>{0, 2, 4, 1, 3, 5}));
}

TEST_F(Forecasts, ThatOverlapAreReadAtAStepThatIsChosen) {
  coordinate("time", {"time"}, {0, 1}, "forecast_reference_time", kHours);
  coordinate("step", {"step"}, {0, 6, 12}, "forecast_period", "hours");
  coordinate("valid_time", {"time", "step"}, {0, 6, 12, 1, 7, 13}, "time", kHours);
  const auto dataset =
      read({{"time", 2}, {"step", 3}}, {"time", "step"}, {.select = {{"step", "6"}}});
  EXPECT_EQ(hours(dataset), (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(values(dataset), (std::vector<float>{1, 4}));
}

TEST_F(Forecasts, WithoutValidTimesAreAtReferenceAndPeriod) {
  coordinate("time", {"time"}, {0, 1}, "forecast_reference_time", kHours);
  coordinate("step", {"step"}, {0.25}, "forecast_period", "days");
  EXPECT_EQ(hours(read({{"time", 2}, {"step", 1}}, {"time", "step"})),
            (std::vector<int64_t>{6, 7}));
}

TEST_F(Forecasts, HaveAPeriodToEachReferenceTime) {
  coordinate("time", {"time"}, {0, 12, 12}, "forecast_reference_time", kHours);
  coordinate("passed", {"time"}, {6, 6, 12}, "forecast_period", "hours");
  EXPECT_EQ(hours(read({{"time", 3}}, {"time"})), (std::vector<int64_t>{6, 18, 24}));
}

TEST_F(Forecasts, WithoutAPeriodAreRefusedByItsName) {
  coordinate("time", {"time"}, {0, 12, 24}, "forecast_reference_time", kHours);
  coordinate("passed", {"time"}, {6, NAN, 6}, "forecast_period", "hours");
  const std::string message = message_of<DataError>([&] { read({{"time", 3}}, {"time"}); });
  EXPECT_TRUE(contains(message, "a.nc: coordinate 'passed': value 1 of 3 is missing")) << message;
}

TEST_F(Forecasts, WithReferenceTimesAloneAreRefused) {
  coordinate("time", {"time"}, {0, 1}, "forecast_reference_time", kHours);
  const std::string message = message_of<DataError>([&] { read({{"time", 2}}, {"time"}); });
  EXPECT_TRUE(contains(message, "'time' of variable 'v' is when forecasts began")) << message;
}

TEST_F(Forecasts, HaveReferenceTimesBesideTheirOwn) {
  coordinate("time", {"time"}, {6, 7}, "time", kHours);
  coordinate("forecast_reference_time", {"time"}, {0, 1}, "forecast_reference_time", kHours);
  EXPECT_EQ(hours(read({{"time", 2}}, {"time"})), (std::vector<int64_t>{6, 7}));
}

/// Hourly times, or others, as they are stored.
class StoredTimes : public testing::Test {
 protected:
  Dataset read(const Values& values, const std::string& units, hid_t type = H5T_IEEE_F64LE,
               double scale = 1) {
    {
      NcWriter writer(folder_ / "a.nc",
                      {{"time", values.size()}, {"latitude", 1}, {"longitude", 1}});
      writer.add({.name = "time", .dimensions = {"time"}, .values = values, .type = type});
      writer.text("time", "units", units);
      if (scale != 1) writer.number("time", "scale_factor", scale);
      writer.add({.name = "latitude", .dimensions = {"latitude"}, .values = {50}});
      writer.text("latitude", "units", "degrees_north");
      writer.add({.name = "longitude", .dimensions = {"longitude"}, .values = {1}});
      writer.text("longitude", "units", "degrees_east");
      writer.add({.name = "v",
                  .dimensions = {"time", "latitude", "longitude"},
                  .values = Values(values.size(), 1)});
      writer.attach_dimensions("v");
    }
    return Dataset({.paths = {folder_ / "a.nc"}, .variables = {"v"}});
  }

  /// Seconds since 2019-03-01 of hours, each with a second of its own.
  static Values seconds(int count, const std::function<double(int)>& off) {
    Values values;
    for (int hour = 0; hour < count; ++hour) values.push_back(3600.0 * hour + off(hour));
    return values;
  }

  static bool whole_hours(const Dataset& dataset, int64_t offset = 0) {
    const auto& times = dataset.times();
    return std::all_of(times.begin(), times.end(),
                       [&](int64_t time) { return (time - offset) % kHourSeconds == 0; });
  }

  TemporaryFolder folder_;
};

constexpr const char* kSeconds = "seconds since 2019-03-01";

TEST_F(StoredTimes, LoseNothingByPacking) {
  const auto dataset =
      read({315576000, 315577800, 315579600}, "seconds since 2000-01-01", H5T_STD_I32LE, 2);
  EXPECT_EQ(dataset.times()[1] - dataset.times()[0], 3600);
  EXPECT_EQ(dataset.times()[2], to_seconds({2000, 1, 1}, Calendar::standard) + 2 * 315579600LL);
  EXPECT_TRUE(dataset.warnings().empty());
}

TEST_F(StoredTimes, AsDaysInSinglePrecisionAreRoundedToTheHoursTheyMean) {
  Values days;
  for (int hour = 0; hour < 100; ++hour) days.push_back(43829 + hour / 24.0);
  const auto dataset = read(days, "days since 1900-01-01", H5T_IEEE_F32LE);
  EXPECT_TRUE(whole_hours(dataset));
  EXPECT_EQ(dataset.times().back() - dataset.times().front(), 99 * kHourSeconds);
  ASSERT_EQ(dataset.warnings().size(), 1);
  EXPECT_TRUE(contains(dataset.warnings()[0], "times lay off whole steps of 1 h, by"));
}

TEST_F(StoredTimes, OnAnotherSecondEachDayAreRounded) {
  EXPECT_TRUE(whole_hours(read(seconds(96, [](int h) { return h / 24 % 5; }), kSeconds)));
  EXPECT_TRUE(whole_hours(read(seconds(96, [](int h) { return h < 47 ? 0 : 6; }), kSeconds)));
  EXPECT_TRUE(
      whole_hours(read(seconds(96, [](int h) { return 1800.0 + (h % 3); }), kSeconds), 1800));
}

TEST_F(StoredTimes, ThatAreRegularStayAsTheyAre) {
  for (const double off : {0., 1800., 120.}) {
    const auto dataset = read(seconds(20, [&](int) { return off; }), kSeconds);
    EXPECT_EQ(dataset.times()[0] - parse_time("2019-03-01"), off);
    EXPECT_TRUE(dataset.warnings().empty());
  }
  Values days;
  for (int day = 0; day < 20; ++day) days.push_back(24.0 * 5 * day);
  EXPECT_EQ(read(days, "hours since 2019-03-01 03:00").step_text(), "5 d");
}

TEST_F(StoredTimes, FarOffAreNamedAndStay) {
  const auto dataset = read(seconds(40, [](int h) { return h == 30 ? 1000 : 0; }), kSeconds);
  EXPECT_EQ(dataset.times()[30] % kHourSeconds, 1000);
  ASSERT_EQ(dataset.warnings().size(), 1);
  EXPECT_TRUE(contains(dataset.warnings()[0], "the first 2019-03-02T06:16:40, and stay"))
      << dataset.warnings()[0];
}

TEST_F(StoredTimes, ByMonthsStayAsTheyAre) {
  Values days = {0};
  for (const int length : {31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28}) {
    days.push_back(days.back() + length);
  }
  const auto dataset = read(days, "days since 2019-03-01");
  EXPECT_EQ(dataset.times().back(), parse_time("2020-02-29"));
  EXPECT_EQ(dataset.step_text(), "a month");
  EXPECT_TRUE(dataset.warnings().empty());
}

}  // namespace
}  // namespace isobar::time_axis_test
