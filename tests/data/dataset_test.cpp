// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/dataset.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cmath>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::dataset_test {
namespace {

using test::message_of;
using test::NcWriter;
using test::TemporaryFolder;
using test::weather_value;
using test::WeatherFile;
using test::write_weather;

/// What a data set in isobar's order has to give at an hour.
at::Tensor wanted_fields(const Dataset& dataset, double hour) {
  std::vector<float> values;
  for (const double latitude : dataset.latitudes()) {
    for (const double longitude : dataset.longitudes()) {
      for (std::size_t v = 0; v < dataset.variables().size(); ++v) {
        values.push_back(
            static_cast<float>(weather_value(static_cast<int>(v), hour, latitude, longitude)));
      }
    }
  }
  return at::tensor(values).reshape({-1, static_cast<int64_t>(dataset.variables().size())});
}

Dataset written(const TemporaryFolder& folder, const WeatherFile& weather) {
  write_weather(folder / "a.nc", weather);
  return Dataset({.paths = {folder / "a.nc"}, .variables = weather.variables});
}

TEST(Dataset, ReadsFieldsPointByPoint) {
  const TemporaryFolder folder;
  const Dataset dataset = written(folder, {.variables = {"t", "u"}});
  EXPECT_EQ(dataset.times().front(), parse_time("2019-03-01"));
  EXPECT_EQ(dataset.units(), (std::vector<std::string>{"K", "K"}));
  const at::Tensor fields = dataset.read(2);
  EXPECT_EQ(fields.sizes(), (std::vector<int64_t>{6, 2}));
  EXPECT_TRUE(at::equal(fields, wanted_fields(dataset, 2)));
}

TEST(Dataset, TurnsFilesThatRunFromSouthToNorth) {
  const TemporaryFolder folder;
  const Dataset dataset = written(folder, {.latitudes = {-10, 0, 10}});
  EXPECT_EQ(dataset.latitudes(), (std::vector<double>{10, 0, -10}));
  EXPECT_TRUE(at::equal(dataset.read(1), wanted_fields(dataset, 1)));
}

TEST(Dataset, TurnsLongitudesOf0To360Around) {
  const TemporaryFolder folder;
  const Dataset dataset = written(folder, {.longitudes = {0, 90, 180, 270}});
  EXPECT_EQ(dataset.longitudes(), (std::vector<double>{-180, -90, 0, 90}));
  // weather_value of the file's own 180 and 270.
  EXPECT_EQ(dataset.read(0)[0][0].item<float>(), weather_value(0, 0, 50, 180));
  EXPECT_EQ(dataset.read(0)[1][0].item<float>(), weather_value(0, 0, 50, 270));
  EXPECT_EQ(dataset.read(0)[2][0].item<float>(), weather_value(0, 0, 50, 0));
}

TEST(Dataset, ReadsDimensionsInAnyOrder) {
  const TemporaryFolder folder;
  for (std::vector<std::string> order = {"latitude", "longitude", "time"};;) {
    const Dataset dataset =
        written(folder, {.variables = {"t", "u"}, .latitudes = {1, 2}, .order = order});
    EXPECT_TRUE(at::equal(dataset.read(1), wanted_fields(dataset, 1))) << order[0] << order[1];
    if (!std::next_permutation(order.begin(), order.end())) break;
  }
}

TEST(Dataset, ReadsTheSameWithAndWithoutMemory) {
  const TemporaryFolder folder;
  WeatherFile weather{.variables = {"t", "u"}, .hours = {0, 1, 2, 3, 4}, .chunk = {2, 2, 3}};
  write_weather(folder / "a.nc", weather);
  const Dataset kept({.paths = {folder / "a.nc"}, .variables = weather.variables});
  const Dataset fresh(
      {.paths = {folder / "a.nc"}, .variables = weather.variables, .cache_bytes = 0});
  for (const int64_t time : {4, 0, 3, 3, 1, 2, 4}) {
    EXPECT_TRUE(at::equal(kept.read(time), wanted_fields(kept, static_cast<double>(time))));
    EXPECT_TRUE(at::equal(fresh.read(time), wanted_fields(kept, static_cast<double>(time))));
  }
}

TEST(Dataset, KeepsWhatItReadAndGivesCopies) {
  const TemporaryFolder folder;
  const Dataset dataset = written(folder, {.chunk = {3, 2, 3}});
  dataset.read(0).zero_();
  test::write_file(folder / "a.nc", "");  // all three times were in the chunk just read
  EXPECT_TRUE(at::equal(dataset.read(0), wanted_fields(dataset, 0)));
  EXPECT_TRUE(at::equal(dataset.read(2), wanted_fields(dataset, 2)));
}

TEST(Dataset, ReadsRowsAsItReadsAllPoints) {
  const TemporaryFolder folder;
  for (std::vector<std::string> order = {"latitude", "longitude", "time"};;) {
    // From south to north, and longitudes whose second half comes first.
    write_weather(folder / "a.nc", {.variables = {"t", "u"},
                                    .latitudes = {-10, 0, 10, 20},
                                    .longitudes = {0, 90, 180, 270},
                                    .order = order});
    for (const int64_t bytes : {0, 1 << 20}) {
      const DatasetOptions options{
          .paths = {folder / "a.nc"}, .variables = {"t", "u"}, .cache_bytes = bytes};
      const Dataset dataset(options), whole(options);
      for (const std::vector<int64_t>& list :
           {std::vector<int64_t>{5, 4, 9}, {0}, {15, 0, 15}, {2, 3}, {}}) {
        const auto rows = at::tensor(list, at::kLong);
        const auto wanted = whole.read(1).index_select(0, rows);
        EXPECT_TRUE(at::equal(dataset.read(1, rows), wanted)) << rows << order[0] << bytes;
        EXPECT_TRUE(at::equal(dataset.read(1, rows.clone()), wanted)) << "read again";
        EXPECT_TRUE(at::equal(whole.read(1, rows), wanted)) << "with all points in memory";
      }
    }
    if (!std::next_permutation(order.begin(), order.end())) break;
  }
}

TEST(Dataset, KeepsNoPointsButTheRowsAskedFor) {
  const TemporaryFolder folder;
  const WeatherFile weather = test::large_weather(3);
  write_weather(folder / "a.nc", weather);
  // Room for two points at three times.
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"t"}, .cache_bytes = 24});
  const auto rows = at::tensor({128 * 256 - 1, 1}, at::kLong);
  const auto other = at::tensor({0, 128 * 256 - 2}, at::kLong);
  const auto wanted = wanted_fields(dataset, 2).index_select(0, rows);
  for (int64_t time = 0; time < 3; ++time) dataset.read(time, rows).zero_();
  const auto read_before = dataset.read(2, other), all_before = dataset.read(2);
  test::write_file(folder / "a.nc", "");  // what is read from it now is something else
  EXPECT_TRUE(at::equal(dataset.read(2, rows), wanted));
  EXPECT_FALSE(at::equal(dataset.read(2, other), read_before)) << "there was no room for it";
  EXPECT_FALSE(at::equal(dataset.read(2), all_before));
}

TEST(Dataset, RefusesRowsThatAreNoPoints) {
  const TemporaryFolder folder;
  const Dataset dataset = written(folder, {});
  EXPECT_EQ(message_of<UsageError>([&] {
              dataset.read(0, at::tensor({2, 6}, at::kLong));
            }),
            "Dataset: rows from 2 to 6, of 6 points");
  EXPECT_THROW(dataset.read(0, at::tensor({-1}, at::kLong)), UsageError);
  EXPECT_THROW(dataset.read(0, at::tensor({1.0})), UsageError);
  EXPECT_THROW(dataset.read(0, at::zeros({1, 1}, at::kLong)), UsageError);
}

TEST(Dataset, KeepsTheTimesOfAChunkWhereTheDataDoNotFit) {
  const TemporaryFolder folder;
  WeatherFile weather = test::large_weather(15);
  weather.chunk = {3, 128, 256};
  write_weather(folder / "a.nc", weather);
  // Room for half a field; each is 128 KiB.
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"t"}, .cache_bytes = 64 << 10});
  const auto rows = at::tensor({5, 7}, at::kLong);
  dataset.read(3);
  // Other chunks, of other points, fill what HDF5 keeps by itself, 1 MiB.
  for (const int64_t time : {0, 6, 9, 12}) dataset.read(time, rows);
  test::write_file(folder / "a.nc", "");  // what is read from it now is something else
  EXPECT_TRUE(at::equal(dataset.read(5), wanted_fields(dataset, 5)));
  EXPECT_TRUE(at::equal(dataset.read(14, rows), wanted_fields(dataset, 14).index_select(0, rows)));
}

TEST(Dataset, TellsOfChunksThatMakeReadingSlow) {
  const TemporaryFolder folder;
  WeatherFile weather{.hours = {0, 1, 2, 3, 4, 5}, .chunk = {6, 2, 3}};
  write_weather(folder / "a.nc", weather);
  DatasetOptions options{.paths = {folder / "a.nc"}, .variables = {"t"}, .cache_bytes = 100};
  const Dataset slow(options);
  ASSERT_EQ(slow.warnings().size(), 1);
  EXPECT_NE(slow.warnings()[0].find("a chunk holds 6 times"), std::string::npos);
  EXPECT_NE(slow.warnings()[0].find("nccopy -d 1 -s -c time/1,latitude/2,longitude/3"),
            std::string::npos)
      << slow.warnings()[0];
  options.cache_bytes = 144;
  EXPECT_TRUE(Dataset(options).warnings().empty());
}

/// A file of t over time and, beside it, a mask without time.
void write_static(const std::string& path, const std::vector<std::string>& order) {
  NcWriter writer(path, {{"time", 3}, {"lat", 2}, {"lon", 2}});
  writer.add({.name = "time", .dimensions = {"time"}, .values = {0, 1, 2}});
  writer.text("time", "units", "hours since 2019-03-01");
  for (const char* axis : {"lat", "lon"}) {
    writer.add({.name = axis, .dimensions = {axis}, .values = {1, 2}});
    writer.text(axis, "units", "degrees");
  }
  writer.add({.name = "t",
              .dimensions = {"time", "lat", "lon"},
              .values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}});
  writer.add({.name = "lsm", .dimensions = order, .values = {0, 1, 2, 3}});
  writer.attach_dimensions("t");
  writer.attach_dimensions("lsm");
}

TEST(Dataset, HasFieldsWithoutTimeAtAllTimes) {
  const TemporaryFolder folder;
  for (const bool turned : {false, true}) {
    write_static(folder / "a.nc", turned ? std::vector<std::string>{"lon", "lat"}
                                         : std::vector<std::string>{"lat", "lon"});
    for (const std::vector<std::string>& names :
         {std::vector<std::string>{"t", "lsm"}, std::vector<std::string>{"lsm", "t"}}) {
      const Dataset dataset({.paths = {folder / "a.nc"}, .variables = names});
      const int64_t lsm = names[0] == "lsm" ? 0 : 1;
      // From north to south.
      const auto mask = turned ? at::tensor({1., 3., 0., 2.}) : at::tensor({2., 3., 0., 1.});
      for (int64_t time = 0; time < 3; ++time) {
        EXPECT_TRUE(at::equal(dataset.read(time).select(1, lsm), mask.to(at::kFloat)));
        EXPECT_EQ(dataset.read(time)[0][1 - lsm].item<float>(), 3 + 4 * static_cast<float>(time));
      }
      EXPECT_EQ(dataset.read(1, at::tensor({1}, at::kLong))[0][lsm].item<float>(), 3);
    }
  }
}

TEST(Dataset, JoinsFilesInTheOrderOfTheirTimes) {
  const TemporaryFolder folder;
  write_weather(folder / "late.nc", {.hours = {3, 4}});
  write_weather(folder / "early.nc", {.hours = {0, 2}});
  const Dataset dataset({.paths = {folder / "late.nc", folder / "early.nc"}, .variables = {"t"}});
  ASSERT_EQ(dataset.times().size(), 4);
  EXPECT_EQ(dataset.find(parse_time("2019-03-01T03:00")), 2);
  EXPECT_EQ(dataset.find(parse_time("2019-03-01T01:00")), std::nullopt);
  EXPECT_TRUE(at::equal(dataset.read(1), wanted_fields(dataset, 2)));
  EXPECT_TRUE(at::equal(dataset.read(3), wanted_fields(dataset, 4)));
}

TEST(Dataset, GivesTheCoordinatesOfEveryPoint) {
  const TemporaryFolder folder;
  const Dataset dataset = written(folder, {});
  EXPECT_TRUE(at::equal(dataset.point_latitudes(),
                        at::tensor({50., 50., 50., 49., 49., 49.}, at::kDouble)));
  EXPECT_TRUE(
      at::equal(dataset.point_longitudes(), at::tensor({-1., 0., 1., -1., 0., 1.}, at::kDouble)));
}

/// A file whose dimensions have other names than usual.
void write_odd_names(const std::string& path) {
  NcWriter writer(path, {{"t", 1}, {"y", 1}, {"x", 2}, {"number", 1}});
  writer.add({.name = "t", .dimensions = {"t"}, .values = {0}});
  writer.text("t", "units", "days since 2000-01-01");
  writer.add({.name = "y", .dimensions = {"y"}, .values = {1}});
  writer.text("y", "units", "degreeN");
  writer.add({.name = "x", .dimensions = {"x"}, .values = {2, 3}});
  writer.text("x", "standard_name", "longitude");
  writer.dimension_only("number");
  writer.add({.name = "v", .dimensions = {"number", "x", "y", "t"}, .values = {7, 8}});
  writer.attach_dimensions("v");
}

TEST(Dataset, FindsCoordinatesByTheirAttributesAndIgnoresDimensionsOfOne) {
  const TemporaryFolder folder;
  write_odd_names(folder / "a.nc");
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"v"}});
  EXPECT_EQ(dataset.longitudes(), (std::vector<double>{2, 3}));
  EXPECT_TRUE(at::equal(dataset.read(0), at::tensor({7.0F, 8.0F}).view({2, 1})));
}

TEST(Dataset, ReadsFilesOfASingleTimeThatIsNoDimension) {
  const Dataset dataset({.paths = {ISOBAR_TEST_FILES "/era5_packed_sfc_1995-07-14T12.nc"},
                         .variables = {"t2m", "sp"}});
  EXPECT_EQ(dataset.times(), std::vector<int64_t>{parse_time("1995-07-14T12:00")});
  EXPECT_EQ(dataset.read(0).sizes(), (std::vector<int64_t>{105 * 237, 2}));
}

TEST(Dataset, ReadsTheExampleData) {
  const Dataset dataset({.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  EXPECT_EQ(dataset.times().size(), 744);
  EXPECT_EQ(format_time(dataset.times().back()), "2019-03-31T23:00");
  EXPECT_EQ(dataset.latitudes().front(), 58);
  EXPECT_EQ(dataset.longitudes().front(), -10);
  EXPECT_EQ(dataset.read(100)[10 * 49 + 20][0].item<float>(), 278.32202F);
}

std::string opening_says(DatasetOptions options) {
  return message_of<DataError>([&] { Dataset{std::move(options)}; });
}

TEST(DatasetErrors, NameTheVariableThatAFileLacks) {
  const std::string message = opening_says({.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2n"}});
  EXPECT_NE(message.find("no variable 't2n'; did you mean 't2m'?"), std::string::npos) << message;
}

TEST(DatasetErrors, NameTheTimeThatDoesNotIncrease) {
  const TemporaryFolder folder;
  write_weather(folder / "a.nc", {.hours = {0, 2, 1}});
  std::string message = opening_says({.paths = {folder / "a.nc"}, .variables = {"t"}});
  EXPECT_NE(message.find("2019-03-01T01:00 after 2019-03-01T02:00"), std::string::npos) << message;
  write_weather(folder / "b.nc", {});
  message = opening_says({.paths = {folder / "b.nc", folder / "b.nc"}, .variables = {"t"}});
  EXPECT_NE(message.find("times do not increase"), std::string::npos) << message;
}

TEST(DatasetErrors, RefuseFilesOfDifferentGridsOrCalendars) {
  const TemporaryFolder folder;
  write_weather(folder / "a.nc", {});
  write_weather(folder / "b.nc", {.hours = {5}, .longitudes = {-1, 0, 2}});
  write_weather(folder / "c.nc", {.hours = {5}, .calendar = "360_day"});
  const auto says = [&](const char* other) {
    return opening_says({.paths = {folder / "a.nc", folder / other}, .variables = {"t"}});
  };
  EXPECT_NE(says("b.nc").find("has other longitudes than"), std::string::npos);
  EXPECT_NE(says("c.nc").find("has another calendar than"), std::string::npos);
}

TEST(Dataset, JoinsFilesWhoseAxesDifferByRounding) {
  const TemporaryFolder folder;
  write_weather(folder / "a.nc", {});
  write_weather(folder / "b.nc", {.hours = {5}, .latitudes = {50.0001, 49}});
  write_weather(folder / "c.nc", {.hours = {5}, .latitudes = {50.01, 49}});
  const auto says = [&](const char* other) {
    return opening_says({.paths = {folder / "a.nc", folder / other}, .variables = {"t"}});
  };
  EXPECT_EQ(says("b.nc"), "nothing thrown");
  EXPECT_NE(says("c.nc").find("has other latitudes than"), std::string::npos);
}

TEST(DatasetErrors, RefuseFilesOfDifferentUnits) {
  const TemporaryFolder folder;
  write_weather(folder / "a.nc", {});
  write_weather(folder / "b.nc", {.hours = {5}, .units = "degC"});
  const std::string message =
      opening_says({.paths = {folder / "a.nc", folder / "b.nc"}, .variables = {"t"}});
  EXPECT_NE(message.find("b.nc: variable 't' is in 'degC', in "), std::string::npos) << message;
}

TEST(DatasetErrors, RefuseVariablesThatAreNotGriddedAlike) {
  const TemporaryFolder folder;
  write_weather(folder / "a.nc", {});
  const std::string message =
      opening_says({.paths = {folder / "a.nc"}, .variables = {"t", "latitude"}});
  EXPECT_NE(message.find("variable 'latitude' has no longitude coordinate"), std::string::npos)
      << message;
}

TEST(DatasetErrors, NameTheVariableAndTimeOfAMissingValue) {
  const TemporaryFolder folder;
  {
    WeatherFile weather{.hours = {0, 1}};
    write_weather(folder / "a.nc", weather);
    const hid_t file = H5Fopen((folder / "a.nc").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t dataset = H5Dopen2(file, "t", H5P_DEFAULT);
    std::vector<float> values(12, 1);
    values[8] = std::numeric_limits<float>::quiet_NaN();
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(dataset);
    H5Fclose(file);
  }
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"t"}});
  EXPECT_NO_THROW(dataset.read(0));
  const std::string message = message_of<DataError>([&] { dataset.read(1); });
  EXPECT_NE(message.find("'t' has missing values at 2019-03-01T01:00"), std::string::npos)
      << message;
  const Dataset lenient({.paths = {folder / "a.nc"}, .variables = {"t"}, .allow_missing = true});
  EXPECT_EQ(lenient.read(1).isnan().sum().item<int64_t>(), 1);
}

/// What reading says of a file of t at two times, with one value in place of the ninth.
std::string reading_says(double value, const DatasetOptions& given = {}) {
  const TemporaryFolder folder;
  write_static(folder / "a.nc", {"lat", "lon"});
  const hid_t file = H5Fopen((folder / "a.nc").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "t", H5P_DEFAULT);
  std::vector<double> values(12, 1);
  values[8] = value;
  H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  H5Dclose(dataset);
  H5Fclose(file);
  DatasetOptions options = given;
  options.paths = {folder / "a.nc"};
  options.variables = {"lsm", "t"};
  const Dataset read(options);
  EXPECT_NO_THROW(read.read(1));
  return message_of<DataError>([&] { read.read(2); });
}

TEST(DatasetErrors, NameTheTimeOfAValueThatCannotBe) {
  for (const bool lenient : {false, true}) {
    const DatasetOptions options{.allow_missing = lenient};
    const std::string infinite = reading_says(HUGE_VAL, options);
    EXPECT_NE(infinite.find("variable 't' is inf at 2019-03-01T02:00, which is not finite"),
              std::string::npos)
        << infinite;
    EXPECT_NE(reading_says(-1e30, options).find("variable 't' is -1e+30 at 2019-03-01T02:00"),
              std::string::npos);
  }
  const std::string fill = reading_says(1e20);
  EXPECT_NE(fill.find("ncatted -a missing_value,t,o,f,1e+20 FILE"), std::string::npos) << fill;
  EXPECT_EQ(reading_says(9e14), "nothing thrown");
}

/// Spoils a variable's chunk that holds a time.
void damage(const std::string& path, const char* variable, hsize_t time) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, variable, H5P_DEFAULT);
  const hsize_t damaged[] = {time, 0, 0};
  haddr_t address = 0;
  hsize_t bytes = 0;
  EXPECT_GE(H5Dget_chunk_info_by_coord(dataset, damaged, nullptr, &address, &bytes), 0);
  H5Dclose(dataset);
  H5Fclose(file);
  std::string stored = test::read_file(path);
  stored.replace(address + bytes / 2, bytes / 4, bytes / 4, '\xff');
  test::write_file(path, stored);
}

/// Two variables of 2 x 2 points at four hours, of which t is stored in one chunk, u in four.
struct Chunked {
  std::vector<double> t = std::vector<double>(16, 1);
  std::map<std::string, double> attributes_of_t = {};
  hid_t type_of_t = H5T_IEEE_F32LE;
};

void write_chunked(const std::string& path, const Chunked& chunked) {
  NcWriter writer(path, {{"time", 4}, {"lat", 2}, {"lon", 2}});
  writer.add({.name = "time", .dimensions = {"time"}, .values = {0, 1, 2, 3}});
  writer.text("time", "units", "hours since 2019-03-01");
  for (const char* axis : {"lat", "lon"}) {
    writer.add({.name = axis, .dimensions = {axis}, .values = {2, 1}});
    writer.text(axis, "units", std::string("degrees_") + (axis[1] == 'a' ? "north" : "east"));
  }
  writer.add({.name = "t",
              .dimensions = {"time", "lat", "lon"},
              .values = chunked.t,
              .type = chunked.type_of_t,
              .chunk = {4, 2, 2}});
  for (const auto& [name, value] : chunked.attributes_of_t) writer.number("t", name, value);
  writer.add({.name = "u",
              .dimensions = {"time", "lat", "lon"},
              .values = std::vector<double>(16, 5),
              .chunk = {1, 2, 2},
              .fletcher32 = true});
  writer.attach_dimensions("t");
  writer.attach_dimensions("u");
}

TEST(DatasetErrors, OfAValueAreOfItsTimeAndPointAlone) {
  const TemporaryFolder folder;
  Chunked chunked;
  chunked.t[4 + 2] = 1e20;  // at 01:00
  write_chunked(folder / "a.nc", chunked);
  for (const int64_t cache_bytes : {0, 1, 1 << 20}) {
    const Dataset dataset(
        {.paths = {folder / "a.nc"}, .variables = {"t"}, .cache_bytes = cache_bytes});
    for (const int64_t time : {0, 2, 3}) {
      EXPECT_EQ(message_of<DataError>([&] { dataset.read(time); }), "nothing thrown");
    }
    const std::string message = message_of<DataError>([&] { dataset.read(1); });
    EXPECT_NE(message.find("'t' is 1e+20 at 2019-03-01T01:00"), std::string::npos) << message;
    EXPECT_NO_THROW(dataset.read(1, at::tensor({0, 1}, at::kLong))) << cache_bytes;
  }
}

TEST(DatasetErrors, OfAChunkAreOfItsTimeAlone) {
  const TemporaryFolder folder;
  write_chunked(folder / "a.nc", {});
  damage(folder / "a.nc", "u", 2);
  for (const int64_t cache_bytes : {0, 1, 1 << 20}) {
    const Dataset dataset(
        {.paths = {folder / "a.nc"}, .variables = {"t", "u"}, .cache_bytes = cache_bytes});
    for (const int64_t time : {0, 1, 3}) {
      EXPECT_EQ(message_of<DataError>([&] { dataset.read(time); }), "nothing thrown");
      EXPECT_EQ(dataset.read(time).sum().item<float>(), 24);
    }
    const std::string message = message_of<DataError>([&] { dataset.read(2); });
    EXPECT_NE(message.find(", at 2019-03-01T02:00"), std::string::npos) << message;
  }
}

/// What reading says of t at its second hour, where one value is this.
std::string says_of(double value, const std::map<std::string, double>& attributes) {
  const TemporaryFolder folder;
  Chunked chunked{.attributes_of_t = attributes};
  chunked.t[4] = value;
  write_chunked(folder / "a.nc", chunked);
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"t"}});
  return message_of<DataError>([&] { dataset.read(1); });
}

TEST(DatasetErrors, AreNotOfLargeValuesThatTheFileDeclares) {
  const std::string message = says_of(3e20, {});
  EXPECT_NE(message.find("declare a valid_max"), std::string::npos) << message;
  EXPECT_EQ(says_of(3e20, {{"valid_max", 1e22}}), "nothing thrown");
  EXPECT_EQ(says_of(3e20, {{"valid_max", 3e20}}), "nothing thrown");
  EXPECT_EQ(says_of(-3e20, {{"valid_min", -1e22}}), "nothing thrown");
  EXPECT_NE(says_of(-3e20, {{"valid_max", 1e22}}), "nothing thrown");
  const TemporaryFolder folder;
  write_chunked(folder / "a.nc", {.t = std::vector<double>(16, 7),
                                  .attributes_of_t = {{"scale_factor", 1e18}, {"valid_max", 1e20}},
                                  .type_of_t = H5T_STD_I16LE});
  const Dataset packed({.paths = {folder / "a.nc"}, .variables = {"t"}});
  EXPECT_EQ(packed.read(1)[0][0].item<float>(), 7e18F);
}

TEST(DatasetErrors, NameTheTimeThatIsDamaged) {
  const TemporaryFolder folder;
  WeatherFile weather = test::large_weather(4);
  weather.chunk = {2, 128, 256};
  weather.deflate = 1;
  write_weather(folder / "a.nc", weather);
  damage(folder / "a.nc", "t", 2);
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"t"}});
  EXPECT_NO_THROW(dataset.read(1));
  for (const int64_t time : {3, 2}) {
    const std::string message = message_of<DataError>([&] { dataset.read(time); });
    EXPECT_NE(message.find("a.nc: variable 't': cannot be read"), std::string::npos) << message;
    EXPECT_NE(message.find(", at 2019-03-01T0" + std::to_string(time) + ":00"), std::string::npos)
        << message;
  }
}

TEST(DatasetErrors, RefuseAVariableThatIsShorterThanItsTimes) {
  const TemporaryFolder folder;
  write_weather(folder / "a.nc", {.chunk = {1, 2, 3}, .unlimited = true});
  const hid_t file = H5Fopen((folder / "a.nc").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t t = H5Dopen2(file, "t", H5P_DEFAULT);
  const hsize_t shorter[] = {2, 2, 3};
  ASSERT_GE(H5Dset_extent(t, shorter), 0);
  H5Dclose(t);
  H5Fclose(file);
  const std::string message = opening_says({.paths = {folder / "a.nc"}, .variables = {"t"}});
  EXPECT_NE(message.find("variable 't', dimension 'time' has length 2, wanted 3"),
            std::string::npos)
      << message;
}

TEST(DatasetErrors, RefuseEmptyAndRepeatedNames) {
  EXPECT_THROW(Dataset({.paths = {}, .variables = {"t"}}), UsageError);
  EXPECT_THROW(Dataset({.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {}}), UsageError);
  EXPECT_THROW(Dataset({.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m", "t2m"}}), UsageError);
}

}  // namespace
}  // namespace isobar::dataset_test
