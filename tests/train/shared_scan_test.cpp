// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/shared_scan.hpp>

#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/comm/thread_world.hpp>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace isobar::shared_scan_test {
namespace {

class SharedScan : public testing::Test {
 protected:
  SharedScan() {
    test::WeatherFile weather{.variables = {"t", "u"}, .hours = std::vector<double>(100)};
    std::iota(weather.hours.begin(), weather.hours.end(), 0);
    test::write_weather(folder_ / "a.nc", weather);
  }

  FieldScan scan() const {
    return {std::make_shared<const Dataset>(
                DatasetOptions{.paths = {(folder_ / "a.nc").string()}, .variables = {"t", "u"}}),
            {.periods = {period_}, .times = {}, .step_hours = 6}};
  }

  test::TemporaryFolder folder_;
  Period period_ = parse_period("2019-03-01T10:00", "2019-03-05");
};

TEST_F(SharedScan, TellsEveryRankTheSameAsOneAlone) {
  auto alone = scan();
  alone.look_through(0, 1);
  const auto wanted = alone.statistics(period_);
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](Communicator& comm) {
      auto shared = scan();
      int64_t last = 0;
      share_scan(shared, comm, [&](int64_t done, int64_t total) {
        last = done;
        EXPECT_EQ(total, 86);
      });
      EXPECT_EQ(last, 86);
      for (size_t v = 0; v < wanted.size(); ++v) {
        const auto found = shared.statistics(period_)[v];
        EXPECT_EQ(found.values.mean, wanted[v].values.mean);
        EXPECT_EQ(found.values.stdev, wanted[v].values.stdev);
        EXPECT_EQ(found.values.minimum, wanted[v].values.minimum);
        EXPECT_EQ(found.values.maximum, wanted[v].values.maximum);
        EXPECT_EQ(found.change_stdev, wanted[v].change_stdev);
      }
    });
  }
}

/// A variable `t` on the same hours and points, three values of which are far outside the others:
/// in the first, the second and the last of the blocks that ranks read.
void write_outliers(const std::string& path) {
  test::NcWriter writer(path, {{"time", 100}, {"latitude", 2}, {"longitude", 3}});
  std::vector<double> hours(100), values;
  std::iota(hours.begin(), hours.end(), 0);
  writer.add({.name = "time", .dimensions = {"time"}, .values = hours});
  writer.text("time", "units", "hours since 2019-03-01");
  writer.add({.name = "latitude", .dimensions = {"latitude"}, .values = {50, 49}});
  writer.text("latitude", "units", "degrees_north");
  writer.add({.name = "longitude", .dimensions = {"longitude"}, .values = {-1, 0, 1}});
  writer.text("longitude", "units", "degrees_east");
  for (int i = 0; i < 600; ++i) values.push_back(280 + std::sin(0.3 * i));
  values[6 * 20] = -999;
  values[6 * 50 + 1] = -1000;
  values[6 * 90 + 2] = -998;
  writer.add({.name = "t", .dimensions = {"time", "latitude", "longitude"}, .values = values});
  writer.attach_dimensions("t");
}

TEST_F(SharedScan, TellsEveryRankWhichValuesAreOutliers) {
  write_outliers((folder_ / "b.nc").string());
  const auto dataset = std::make_shared<const Dataset>(
      DatasetOptions{.paths = {(folder_ / "b.nc").string()}, .variables = {"t"}});
  const FieldScanOptions options{.periods = {period_}, .times = {}, .step_hours = 6};
  FieldScan alone(dataset, options);
  alone.look_through(0, 1);
  const auto wanted = alone.suspicions();
  ASSERT_FALSE(wanted.empty());
  EXPECT_NE(wanted[0].find("3 values from -1000 to -998, far outside all others"),
            std::string::npos)
      << wanted[0];
  EXPECT_NE(wanted[0].find("first at 2019-03-01T20:00"), std::string::npos) << wanted[0];
  for (const int ranks : {2, 3}) {
    run_ranks(ranks, [&](Communicator& comm) {
      FieldScan shared(dataset, options);
      share_scan(shared, comm, nullptr);
      EXPECT_EQ(shared.suspicions(), wanted) << comm.rank();
    });
  }
}

}  // namespace
}  // namespace isobar::shared_scan_test
