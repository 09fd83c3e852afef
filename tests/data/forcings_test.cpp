// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/forcings.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cmath>
#include <numbers>

#include "core/message_of.hpp"

namespace isobar::forcings_test {
namespace {

double degrees(double radians) { return radians * 180 / std::numbers::pi; }

double forcing(const std::string& name, double latitude, double longitude, const std::string& time,
               Calendar calendar = Calendar::standard) {
  return compute_forcings({name}, at::full({1}, latitude, at::kDouble),
                          at::full({1}, longitude, at::kDouble), parse_time(time, calendar),
                          calendar)
      .item<float>();
}

TEST(Forcings, DescribeThePlace) {
  EXPECT_NEAR(forcing("cos_latitude", 60, 90, "2019-03-01"), 0.5, 1e-7);
  EXPECT_NEAR(forcing("sin_latitude", -30, 90, "2019-03-01"), -0.5, 1e-7);
  EXPECT_NEAR(forcing("cos_longitude", 60, -120, "2019-03-01"), -0.5, 1e-7);
  EXPECT_NEAR(forcing("sin_longitude", 60, -90, "2019-03-01"), -1, 1e-7);
}

TEST(Forcings, CountLocalTimeFromMidnightBy15DegreesAnHour) {
  EXPECT_NEAR(forcing("cos_local_time", 0, 0, "2019-03-01T00:00"), 1, 1e-7);
  EXPECT_NEAR(forcing("cos_local_time", 0, 0, "2019-03-01T12:00"), -1, 1e-7);
  EXPECT_NEAR(forcing("sin_local_time", 0, 0, "2019-03-01T06:00"), 1, 1e-7);
  EXPECT_NEAR(forcing("sin_local_time", 0, 90, "2019-03-01T00:00"), 1, 1e-7);
  EXPECT_NEAR(forcing("cos_local_time", 0, -90, "1969-12-31T18:00"), -1, 1e-7);
}

TEST(Forcings, CountTheDayOfTheYear) {
  EXPECT_NEAR(forcing("cos_day_of_year", 0, 0, "2019-01-01"), 1, 1e-7);
  // 1 July is day 181 of a common year.
  EXPECT_NEAR(forcing("sin_day_of_year", 0, 0, "2019-07-01"),
              std::sin(2 * std::numbers::pi * 181 / 365.25), 1e-6);
  EXPECT_NEAR(forcing("cos_day_of_year", 0, 0, "2019-07-01", Calendar::day_360), -1, 1e-7);
}

TEST(Forcings, ComeInTheOrderAsked) {
  const at::Tensor values = compute_forcings(
      {"sin_latitude", "cos_latitude"}, at::arange(0., 91., 90., at::kDouble), at::zeros({2}), 0);
  EXPECT_EQ(values.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(values, at::tensor({0.0F, 1.0F, 1.0F, 0.0F}).view({2, 2}), 0, 1e-7));
  EXPECT_EQ(compute_forcings({}, at::zeros({3}), at::zeros({3}), 0).sizes(),
            (std::vector<int64_t>{3, 0}));
}

TEST(Forcings, NameTheNearestOfAnUnknownOne) {
  const std::string message = test::message_of<UsageError>([] { check_forcings({"insulation"}); });
  EXPECT_NE(message.find("unknown forcing 'insulation'; did you mean 'insolation'?"),
            std::string::npos)
      << message;
  for (const std::string& name : forcing_names()) EXPECT_NO_THROW(check_forcings({name}));
}

TEST(Insolation, AgreesWithNrelsWorkedExample) {
  // I. Reda and A. Andreas, "Solar position algorithm for solar radiation
  // applications", NREL/TP-560-34302 (2004), table A5.1: Golden, Colorado, on
  // 2003-10-17 at 12:30:30 of UTC-7, elevation without refraction 39.872046
  // degrees, equation of time 14.641503 min. Spencer's series is good to 0.1
  // degrees here, which is 0.0015 in the sine of that elevation.
  const double wanted = std::sin(39.872046 * std::numbers::pi / 180);
  EXPECT_NEAR(forcing("insolation", 39.742476, -105.1786, "2003-10-17T19:30:30"), wanted, 0.0015);
  const SolarPosition sun = solar_position(parse_time("2003-10-17T19:30:30"));
  EXPECT_NEAR(4 * degrees(sun.equation_of_time), 14.641503, 0.6);
}

TEST(Insolation, FollowsTheSeasons) {
  // Solstices and equinoxes of 2019, Astronomical Almanac; the obliquity is 23.44 degrees.
  EXPECT_NEAR(degrees(solar_position(parse_time("2019-03-20T21:58")).declination), 0, 0.09);
  EXPECT_NEAR(degrees(solar_position(parse_time("2019-06-21T15:54")).declination), 23.44, 0.09);
  EXPECT_NEAR(degrees(solar_position(parse_time("2019-09-23T07:50")).declination), 0, 0.09);
  EXPECT_NEAR(degrees(solar_position(parse_time("2019-12-22T04:19")).declination), -23.44, 0.09);
  // Calendars without leap days keep the season to the date.
  EXPECT_NEAR(degrees(solar_position(parse_time("2199-06-22", Calendar::day_360), Calendar::day_360)
                          .declination),
              23.44, 0.1);
  EXPECT_NEAR(
      degrees(
          solar_position(parse_time("2199-06-21", Calendar::noleap), Calendar::noleap).declination),
      23.44, 0.1);
}

TEST(Insolation, IsOneBelowTheSun) {
  const std::string time = "2019-03-20T21:58";
  const SolarPosition sun = solar_position(parse_time(time));
  const double noon_longitude = -15 * (21 + 58 / 60.0 - 12) - degrees(sun.equation_of_time);
  EXPECT_NEAR(forcing("insolation", degrees(sun.declination), noon_longitude, time), 1, 1e-6);
  EXPECT_NEAR(forcing("insolation", degrees(sun.declination), noon_longitude + 60, time), 0.5,
              1e-4);
  EXPECT_EQ(forcing("insolation", degrees(sun.declination), noon_longitude + 180, time), 0);
}

TEST(Insolation, IsNothingInThePolarNight) {
  EXPECT_EQ(forcing("insolation", 80, 0, "2019-12-22T12:00"), 0);
  EXPECT_GT(forcing("insolation", 80, 0, "2019-06-21T00:00"), 0.2);
}

}  // namespace
}  // namespace isobar::forcings_test
