// SPDX-License-Identifier: Apache-2.0
#include "data/field_series.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace isobar::field_series_test {
namespace {

constexpr int64_t kHours = 200;

/// A wave that moves over a slope from north to south.
at::Tensor weather(int64_t hour) {
  const at::Tensor points = at::arange(12, at::kFloat);
  return 280 + 3 * points + 4 * at::sin(0.3 * static_cast<double>(hour) + points);
}

/// The odd fields of hourly weather in which `spoil` has changed some.
std::vector<OddFields> odd(const std::function<at::Tensor(int64_t, const at::Tensor&)>& spoil) {
  FieldSeries series(kHourSeconds);
  for (int64_t hour = 0; hour < kHours; ++hour) {
    series.add(hour * kHourSeconds, spoil(hour, weather(hour)));
  }
  return series.odd();
}

bool within(int64_t hour) { return hour >= 100 && hour < 110; }

/// That one of the findings is this. Others may be beside it: what comes and goes changes much.
void expect(const std::vector<OddFields>& all, const std::string& check, int64_t times,
            int64_t first, int64_t last) {
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const OddFields& odd) { return odd.check == check; });
  ASSERT_NE(found, all.end()) << check;
  EXPECT_EQ(found->times, times) << check;
  EXPECT_EQ(found->first, first * kHourSeconds) << check;
  EXPECT_EQ(found->last, last * kHourSeconds) << check;
}

TEST(FieldSeries, FindsNothingInWeatherOrInAMaskOrOnDryDays) {
  EXPECT_TRUE(odd([](int64_t, const at::Tensor& t) { return t; }).empty());
  EXPECT_TRUE(odd([](int64_t, const at::Tensor&) { return at::arange(12, at::kFloat); }).empty());
  EXPECT_TRUE(odd([](int64_t, const at::Tensor&) { return at::ones(12); }).empty());
  const auto dry = odd(
      [](int64_t hour, const at::Tensor& t) { return hour % 40 < 20 ? at::zeros(12) : t - 270; });
  EXPECT_TRUE(std::none_of(dry.begin(), dry.end(), [](const OddFields& found) {
    return found.check == "constant" || found.check == "unchanged";
  }));
}

TEST(FieldSeries, FindsFieldsThatAreTheSameEverywhere) {
  const auto found = odd([](int64_t hour, const at::Tensor& t) {
    return within(hour) ? at::full_like(t, 290.195) : t;
  });
  expect(found, "constant", 10, 100, 109);
  EXPECT_EQ(found[0].text, "is 290.195 everywhere");
}

TEST(FieldSeries, FindsFieldsThatDoNotChange) {
  expect(odd([](int64_t hour, const at::Tensor& t) { return within(hour) ? weather(100) : t; }),
         "unchanged", 9, 101, 109);
}

/// Where it stands among hours of a day or the time of storms, between 0 and 1.
double spread(int64_t hour) { return std::fmod(static_cast<double>(hour) * 0.618033988749895, 1); }

std::string checks(const std::vector<OddFields>& found) {
  std::string all;
  for (const OddFields& odd : found) all += odd.check + " ";
  return all;
}

TEST(FieldSeries, FindsNothingInDailyFields) {
  for (const int64_t hours : {1, 3, 6, 12}) {
    FieldSeries series(hours * kHourSeconds);
    for (int64_t hour = 0; hour < 60 * 24; hour += hours) {
      series.add(hour * kHourSeconds, weather(hour / 24));
    }
    EXPECT_EQ(checks(series.odd()), "") << hours;
  }
  FieldSeries stopped(6 * kHourSeconds);
  for (int64_t hour = 0; hour < 60 * 24; hour += 6) {
    stopped.add(hour * kHourSeconds, weather(std::min<int64_t>(hour / 24, 40)));
  }
  expect(stopped.odd(), "unchanged", 79, 40 * 24 + 6, 60 * 24 - 6);
}

TEST(FieldSeries, FindsNothingInAMaskWithGaps) {
  FieldSeries series(kHourSeconds);
  for (int64_t hour = 0; hour < 300; ++hour) {
    if (hour % 3 != 2) series.add(hour * kHourSeconds, at::arange(12, at::kFloat));
  }
  EXPECT_EQ(checks(series.odd()), "");
}

TEST(FieldSeries, FindsNothingInStorms) {
  FieldSeries series(kHourSeconds);
  for (int64_t hour = 0; hour < 1000; ++hour) {
    series.add(hour * kHourSeconds, at::arange(12, at::kFloat) + std::pow(1 - spread(hour), -0.7));
  }
  EXPECT_EQ(checks(series.odd()), "");
}

TEST(FieldSeries, FindsValuesFarOutsideAllOthers) {
  const auto found = odd([](int64_t hour, const at::Tensor& t) {
    at::Tensor spoilt = t.clone();
    if (hour > 100 && hour < 105) spoilt[3] = -999;
    return spoilt;
  });
  expect(found, "far", 4, 101, 104);
  EXPECT_EQ(found[0].text.find("has 4 values from -999 to -999, far outside all others, "), 0)
      << found[0].text;
}

TEST(FieldSeries, FindsFieldsThatAreTurned) {
  const auto found =
      odd([](int64_t hour, const at::Tensor& t) { return within(hour) ? t.flip(0) : t; });
  ASSERT_EQ(found.size(), 1);
  expect(found, "changes", 2, 100, 100);
  EXPECT_EQ(found[0].runs, 2);
}

TEST(FieldSeries, FindsValuesThatAreMissingAtSomeTimes) {
  const auto land = [](int64_t hour, const at::Tensor& t) {
    at::Tensor sea = t.clone();
    sea.slice(0, 0, 3).fill_(NAN);
    if (hour == 7) sea[5] = NAN;
    return sea;
  };
  const auto found = odd(land);
  expect(found, "missing", 1, 7, 7);
  EXPECT_EQ(found[0].text, "misses 4 values, usually 3");
}

TEST(FieldSeries, TellsWhatCannotBeRead) {
  FieldSeries series(kHourSeconds);
  for (int64_t hour = 0; hour < 3; ++hour) series.add(hour * kHourSeconds, weather(hour));
  series.add_unreadable(3 * kHourSeconds, "truncated");
  series.add_unreadable(4 * kHourSeconds, "truncated");
  expect(series.odd(), "unreadable", 2, 3, 4);
}

}  // namespace
}  // namespace isobar::field_series_test
