// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/field_scan.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::field_scan_test {
namespace {

using test::message_of;

int64_t hour(int64_t h) { return parse_time("2019-03-01") + 3600 * h; }
Period hours(int64_t begin, int64_t end) { return {hour(begin), hour(end)}; }

constexpr int64_t kPoints = 6;

/// Hourly fields of one variable on 2 x 3 points, by value_at(hour, point).
class Scans : public testing::Test {
 protected:
  template <typename ValueAt>
  std::shared_ptr<const Dataset> write(int64_t times, const ValueAt& value_at,
                                       bool allow_missing = false) {
    const auto path = (folder_ / (std::to_string(files_++) + ".nc")).string();
    write_file(path, times, value_at);
    return std::make_shared<const Dataset>(
        DatasetOptions{.paths = {path}, .variables = {"t"}, .allow_missing = allow_missing});
  }

  template <typename ValueAt>
  static void write_file(const std::string& path, int64_t times, const ValueAt& value_at) {
    test::NcWriter writer(
        path, {{"time", static_cast<hsize_t>(times)}, {"latitude", 2}, {"longitude", 3}});
    std::vector<double> axis(times), values;
    std::iota(axis.begin(), axis.end(), 0);
    writer.add({.name = "time", .dimensions = {"time"}, .values = axis});
    writer.text("time", "units", "hours since 2019-03-01");
    writer.add({.name = "latitude", .dimensions = {"latitude"}, .values = {50, 49}});
    writer.text("latitude", "units", "degrees_north");
    writer.add({.name = "longitude", .dimensions = {"longitude"}, .values = {-1, 0, 1}});
    writer.text("longitude", "units", "degrees_east");
    for (int64_t t = 0; t < times; ++t) {
      for (int64_t p = 0; p < kPoints; ++p) values.push_back(value_at(t, p));
    }
    writer.add({.name = "t", .dimensions = {"time", "latitude", "longitude"}, .values = values});
    writer.attach_dimensions("t");
  }

  test::TemporaryFolder folder_;
  int files_ = 0;
};

double wave(int64_t t, int64_t p) {
  return 281 + 4 * std::sin(0.4 * static_cast<double>(t) + static_cast<double>(p));
}

FieldScan scan_all(const std::shared_ptr<const Dataset>& dataset, const FieldScanOptions& options) {
  FieldScan scan(dataset, options);
  scan.look_through(0, 1);
  return scan;
}

TEST_F(Scans, AgreeWithPlainLoopsOverValuesAndChanges) {
  const auto dataset = write(100, wave);
  const auto scan = scan_all(dataset, {.periods = {hours(10, 90)}, .times = {}, .step_hours = 6});
  double sum = 0, squares = 0, change_sum = 0, change_squares = 0;
  const double n = 80 * kPoints;
  const auto at = [&](int64_t t, int64_t p) {
    return static_cast<double>(static_cast<float>(wave(t, p)));
  };
  for (int64_t t = 10; t < 90; ++t) {
    for (int64_t p = 0; p < kPoints; ++p) {
      sum += at(t, p) / n;
      change_sum += (at(t, p) - at(t - 6, p)) / n;
    }
  }
  for (int64_t t = 10; t < 90; ++t) {
    for (int64_t p = 0; p < kPoints; ++p) {
      squares += std::pow(at(t, p) - sum, 2) / n;
      change_squares += std::pow(at(t, p) - at(t - 6, p) - change_sum, 2) / n;
    }
  }
  const auto [values, change, missing] = scan.statistics(hours(10, 90)).front();
  EXPECT_NEAR(values.mean, sum, 1e-11);
  EXPECT_NEAR(values.stdev, std::sqrt(squares), 1e-12);
  EXPECT_NEAR(change, std::sqrt(change_squares), 1e-12);
  EXPECT_EQ(values.count, n);
  EXPECT_EQ(missing, 0);
}

TEST_F(Scans, SeeEveryHourOfTheDay) {
  // Of a daily cycle alone a change over a quarter of a day has the square root of two as its
  // deviation, whatever the length; samples at one hour of the day would see none.
  const auto dataset = write(24 * 50 + 6, [](int64_t t, int64_t) {
    return 10 * std::cos(2 * std::numbers::pi * static_cast<double>(t) / 24);
  });
  const auto period = hours(6, 24 * 50 + 6);
  const auto scan = scan_all(dataset, {.periods = {period}, .times = {}, .step_hours = 6});
  const auto found = scan.statistics(period).front();
  EXPECT_NEAR(found.change_stdev / found.values.stdev, std::numbers::sqrt2, 1e-6);
}

TEST_F(Scans, GiveTheSameBitsHoweverRanksShareThem) {
  const auto dataset =
      write(200, [](int64_t t, int64_t p) { return wave(t, p) + (t == 77 && p == 2 ? -9000 : 0); });
  const FieldScanOptions options{
      .periods = {hours(20, 90), hours(20, 150)}, .times = {hour(3), hour(199)}, .step_hours = 6};
  const auto whole = scan_all(dataset, options);
  for (const int size : {2, 3, 7}) {
    FieldScan shared(dataset, options);
    shared.look_through(0, size);
    for (int rank = 1; rank < size; ++rank) {
      FieldScan part(dataset, options);
      part.look_through(rank, size);
      const auto put = [](const auto& to, const auto& from, const auto& combine) {
        for (size_t i = 0; i < to.size(); ++i) combine(to[i], from[i]);
      };
      put(shared.sums(), part.sums(), [](auto a, auto b) { a.add_(b); });
      put(shared.minima(), part.minima(), [](auto a, auto b) { a.copy_(at::minimum(a, b)); });
      put(shared.maxima(), part.maxima(), [](auto a, auto b) { a.copy_(at::maximum(a, b)); });
    }
    for (const auto& period : {hours(20, 90), hours(90, 150), hours(20, 150)}) {
      const auto one = whole.statistics(period).front(), many = shared.statistics(period).front();
      EXPECT_EQ(one.values.mean, many.values.mean);
      EXPECT_EQ(one.values.stdev, many.values.stdev);
      EXPECT_EQ(one.change_stdev, many.change_stdev);
    }
    EXPECT_EQ(shared.suspicions(), whole.suspicions());
    EXPECT_EQ(shared.suspicions().size(), 2) << "a value far off, which is a change far off";
  }
}

TEST_F(Scans, AreOfThePeriodsThatTheyWereMadeFor) {
  const auto scan = scan_all(write(50, wave), {.periods = {hours(0, 40)}, .times = {}});
  EXPECT_EQ(scan.fields(), 40);
  EXPECT_THROW(scan.statistics(hours(0, 20)), UsageError);
  const auto two = scan_all(write(50, wave), {.periods = {hours(0, 40), hours(40, 50)}});
  EXPECT_EQ(two.statistics(hours(0, 40))[0].values.count, 40 * kPoints);
  EXPECT_EQ(two.statistics(hours(40, 50))[0].values.count, 10 * kPoints);
}

TEST_F(Scans, ReadEachFieldOnceAndTell) {
  FieldScan scan(write(50, wave), {.periods = {hours(0, 40)}, .times = {hour(45), hour(3)}});
  int64_t told = 0;
  scan.look_through(0, 1, [&] { ++told; });
  EXPECT_EQ(told, 41);
}

std::string only(const FieldScan& scan) {
  const auto all = scan.suspicions();
  EXPECT_EQ(all.size(), 1);
  return all.empty() ? "" : all.front();
}

TEST_F(Scans, NameValuesFarOutsideAllOthers) {
  const auto dataset =
      write(48, [](int64_t t, int64_t p) { return t >= 5 && p == 1 ? -999 : wave(t, p); });
  const auto text = only(scan_all(dataset, {.periods = {hours(0, 48)}, .times = {}}));
  EXPECT_NE(text.find("'t' has 43 values from -999 to -999, far outside all others, 277 to "),
            std::string::npos)
      << text;
  EXPECT_NE(text.find(", first at 2019-03-01T05:00"), std::string::npos) << text;
  const auto celsius =
      write(48, [](int64_t t, int64_t p) { return t >= 5 && p == 1 ? -999 : wave(t, p) - 281; });
  EXPECT_NE(only(scan_all(celsius, {.periods = {hours(0, 48)}, .times = {}}))
                .find("43 values from -999 to -999"),
            std::string::npos)
      << "below negative values as well as positive ones";
}

TEST_F(Scans, TakeWeatherForWeather) {
  const FieldScanOptions all{.periods = {hours(0, 96)}, .times = {}};
  // A mask of zeros and ones; rain of many sizes with dry days between; snow, and glaciers.
  const auto mask = write(96, [](int64_t, int64_t p) { return p < 3 ? 0.0 : 1.0; });
  EXPECT_TRUE(scan_all(mask, all).suspicions().empty());
  const auto rain = write(96, [](int64_t t, int64_t p) {
    return t % 5 == 0 ? 0.0 : std::pow(10.0, -static_cast<double>((t * 7 + p) % 8));
  });
  EXPECT_TRUE(scan_all(rain, all).suspicions().empty());
  const auto snow = write(96, [](int64_t t, int64_t p) {
    return p == 0 ? 10.0 : 0.02 * static_cast<double>((t + 13 * p) % 90);
  });
  EXPECT_TRUE(scan_all(snow, all).suspicions().empty());
}

TEST_F(Scans, NameFieldsThatAreTheSameEverywhereOrStandStill) {
  const FieldScanOptions all{.periods = {hours(0, 96)}, .times = {}, .step_hours = 6};
  const auto frozen =
      write(96, [](int64_t t, int64_t p) { return t >= 20 && t < 30 ? 248.195 : wave(t, p); });
  EXPECT_EQ(only(scan_all(frozen, all)),
            "'t' is the same everywhere at 10 of 96 times, first at 2019-03-01T20:00");
  const auto still = write(96, [](int64_t t, int64_t p) { return wave(t < 40 ? t : 40, p); });
  EXPECT_EQ(only(scan_all(still, all)),
            "'t' is the same as a step before at 50 of 96 times, first at 2019-03-02T22:00");
}

TEST_F(Scans, RefuseInfinitiesWithTheirTime) {
  const auto dataset = write(48, [](int64_t t, int64_t p) {
    return t == 30 && p == 4 ? std::numeric_limits<double>::infinity() : wave(t, p);
  });
  const auto message =
      message_of<DataError>([&] { scan_all(dataset, {.periods = {hours(0, 48)}, .times = {}}); });
  EXPECT_NE(message.find("'t'"), std::string::npos) << message;
  EXPECT_NE(message.find("2019-03-02T06:00"), std::string::npos) << message;
}

TEST_F(Scans, NeedNoFieldFromBeforeAPeriod) {
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const auto dataset =
        write(90, [&](int64_t t, int64_t p) { return t == 28 && p == 4 ? bad : wave(t, p); });
    const FieldScanOptions options{.periods = {hours(30, 80)}, .times = {}, .step_hours = 6};
    EXPECT_EQ(message_of<DataError>([&] { scan_all(dataset, options); }), "nothing thrown");
    const auto found = scan_all(dataset, options).statistics(hours(30, 80)).front();
    EXPECT_EQ(found.missing, 0);
    EXPECT_NEAR(found.change_stdev, 5.4, 0.3) << "of the other fields";
    EXPECT_NE(message_of<DataError>(
                  [&] { scan_all(dataset, {.periods = {hours(28, 80)}, .times = {}}); }),
              "nothing thrown");
  }
}

TEST_F(Scans, TakeDailyFieldsForWhatTheyAre) {
  const auto daily = [](int64_t t, int64_t p) { return wave(t / 24, p); };
  const auto days = write(60 * 24, daily);
  for (const int64_t step : {3, 6, 12}) {
    const FieldScanOptions all{.periods = {hours(0, 60 * 24)}, .times = {}, .step_hours = step};
    EXPECT_EQ(scan_all(days, all).suspicions(), std::vector<std::string>{}) << step;
  }
  const auto still = write(60 * 24, [&](int64_t t, int64_t p) {
    return daily(t >= 20 * 24 && t < 30 * 24 ? 20 * 24 : t, p);
  });
  EXPECT_EQ(only(scan_all(still, {.periods = {hours(0, 60 * 24)}, .times = {}, .step_hours = 6})),
            "'t' is the same as a step before at 234 of 1440 times, first at 2019-03-21T06:00");
}

TEST_F(Scans, TakeAMaskForWhatItIsHoweverFewHaveAFieldBefore) {
  const auto mask = write(10, [](int64_t, int64_t p) { return p < 3 ? 0.0 : 1.0; });
  EXPECT_EQ(scan_all(mask, {.periods = {hours(0, 10)}, .times = {}, .step_hours = 6}).suspicions(),
            std::vector<std::string>{});
}

TEST_F(Scans, TakeStormsForWeather) {
  // Rain over a small region: most hours little, few very much.
  const auto storms = write(1000, [](int64_t t, int64_t p) {
    const double height = std::fmod(static_cast<double>(t) * 0.618033988749895, 1);
    return std::pow(1 - height, -0.7) + 0.1 * static_cast<double>(p);
  });
  EXPECT_EQ(
      scan_all(storms, {.periods = {hours(0, 1000)}, .times = {}, .step_hours = 1}).suspicions(),
      std::vector<std::string>{});
}

TEST_F(Scans, FindMissingValues) {
  const auto dataset = write(
      48, [](int64_t t, int64_t p) { return t == 30 && p > 3 ? std::nan("") : wave(t, p); }, true);
  const auto scan = scan_all(dataset, {.periods = {hours(0, 48)}, .times = {}});
  EXPECT_EQ(scan.statistics(hours(0, 48)).front().missing, 2);
  EXPECT_EQ(scan.first_missing(0, {hour(29), hour(30)}), hour(30));
  EXPECT_FALSE(scan.first_missing(0, {hour(29), hour(31)}));
}

TEST_F(Scans, KnowWhereAVariableHasAnyValue) {
  const auto dataset = write(
      48,
      [](int64_t t, int64_t p) {
        return t >= 30 || (t == 29 && p > 0) ? std::nan("") : wave(t, p);
      },
      true);
  const auto scan = scan_all(dataset, {.periods = {hours(0, 48)}, .times = {}});
  EXPECT_TRUE(scan.has_value(0, {hour(29), hour(30)})) << "at one point";
  EXPECT_FALSE(scan.has_value(0, {hour(30), hour(47)}));
  EXPECT_FALSE(scan.has_value(0, {hour(60)})) << "of no time that was read";
}

TEST_F(Scans, TellOfFieldsThatAreTurned) {
  const auto slope = [](int64_t t, int64_t p) {
    const bool turned = t >= 100 && t < 104;
    const double row = p < 3 ? 1 : -1;
    return wave(t, p) + 20 * (turned ? -row : row);
  };
  const auto scan =
      scan_all(write(300, slope), {.periods = {hours(0, 300)}, .times = {}, .step_hours = 1});
  const auto found = scan.suspicions();
  ASSERT_EQ(found.size(), 1);
  EXPECT_NE(found[0].find("in 1 h at 2 of 300 times, first at 2019-03-05T04:00"), std::string::npos)
      << found[0];
}

}  // namespace
}  // namespace isobar::field_scan_test
