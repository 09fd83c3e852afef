// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/cf_time.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cmath>

#include "core/message_of.hpp"

namespace isobar::cf_time_test {
namespace {

using test::message_of;

struct KnownDate {
  Calendar calendar;
  CalendarDate date;
  int64_t seconds;
};

class KnownDates : public testing::TestWithParam<KnownDate> {};

TEST_P(KnownDates, CountAsCftimeDoes) {
  const auto& [calendar, date, seconds] = GetParam();
  EXPECT_EQ(to_seconds(date, calendar), seconds);
  const CalendarDate back = to_date(seconds, calendar);
  EXPECT_EQ(back.year, date.year);
  EXPECT_EQ(back.month, date.month);
  EXPECT_EQ(back.day, date.day);
}

// From Python's cftime 1.6: date2num(date, 'seconds since 1970-01-01', calendar).
INSTANTIATE_TEST_SUITE_P(
    Cftime, KnownDates,
    testing::Values(KnownDate{Calendar::standard, {1, 1, 1}, -62135769600},
                    KnownDate{Calendar::standard, {1582, 10, 4}, -12219379200},
                    KnownDate{Calendar::standard, {1582, 10, 15}, -12219292800},
                    KnownDate{Calendar::standard, {1900, 2, 28}, -2203977600},
                    KnownDate{Calendar::standard, {2000, 3, 1}, 951868800},
                    KnownDate{Calendar::standard, {2400, 1, 1}, 13569465600},
                    KnownDate{Calendar::proleptic_gregorian, {1, 1, 1}, -62135596800},
                    KnownDate{Calendar::proleptic_gregorian, {1582, 10, 4}, -12220243200},
                    KnownDate{Calendar::proleptic_gregorian, {2019, 12, 30}, 1577664000},
                    KnownDate{Calendar::noleap, {1, 1, 1}, -62094384000},
                    KnownDate{Calendar::noleap, {1900, 2, 28}, -2202508800},
                    KnownDate{Calendar::noleap, {2019, 12, 30}, 1576627200},
                    KnownDate{Calendar::day_360, {1, 1, 1}, -61243776000},
                    KnownDate{Calendar::day_360, {2000, 3, 1}, 938304000},
                    KnownDate{Calendar::day_360, {2019, 12, 30}, 1555113600}));

TEST(CfTime, GoesThroughEveryDayOfACalendarAndBack) {
  for (const Calendar calendar :
       {Calendar::standard, Calendar::proleptic_gregorian, Calendar::noleap, Calendar::day_360}) {
    // From before 1582 to 2081.
    for (int64_t day = -150000; day < 40700; day += 1) {
      const CalendarDate date = to_date(day * 86400, calendar);
      ASSERT_EQ(to_seconds(date, calendar), day * 86400) << to_string(calendar) << " day " << day;
    }
  }
}

TEST(CfTime, DecodesUnitsSinceAReference) {
  const auto decode = [](double value, const char* units) {
    return decode_cf_time({value}, units, Calendar::standard).front();
  };
  EXPECT_EQ(decode(1551398400, "seconds since 1970-01-01"), 1551398400);
  EXPECT_EQ(decode(837420, "hours since 1900-01-01 00:00:00.0"), parse_time("1995-07-14T12:00"));
  EXPECT_EQ(decode(1.5, "days since 2000-01-01T06:00:00Z"), parse_time("2000-01-02T18:00"));
  EXPECT_EQ(decode(-30, "minutes since 2000-1-1 0:0:0"), parse_time("1999-12-31T23:30"));
  EXPECT_EQ(decode(0, "hours since 2000-01-01 00:00 +01:30"), parse_time("1999-12-31T22:30"));
  EXPECT_EQ(decode(0, "h since 2000-01-01 00:00:00 UTC"), parse_time("2000-01-01"));
  // The reference lies in the Julian calendar, two days from the Gregorian one.
  EXPECT_EQ(decode(1569072, "hours since 1800-01-01 00:00:0.0"), parse_time("1979-01-01"));
  EXPECT_EQ(decode(17067072, "hours since 1-1-1 00:00:0.0"), parse_time("1948-01-01"));
}

TEST(CfTime, RoundsToTheNearestSecond) {
  const double one_minute_in_days = 1.0 / 1440;
  EXPECT_EQ(
      decode_cf_time({50000 + one_minute_in_days}, "days since 1900-01-01", Calendar::standard)
              .front() %
          60,
      0);
}

TEST(CfTime, NamesWhatItCannotRead) {
  const auto says = [](const char* units, double value = 0) {
    return message_of<DataError>([&] { decode_cf_time({value}, units, Calendar::standard); });
  };
  EXPECT_NE(says("months since 2000-01-01").find("unit 'months' is not supported"),
            std::string::npos);
  EXPECT_NE(says("Month").find("'Month' are not of the form"), std::string::npos);
  EXPECT_NE(says("days since yesterday").find("'yesterday' is not a date"), std::string::npos);
  EXPECT_NE(says("days since 2001-02-29").find("2001-2-29 does not exist in the standard"),
            std::string::npos);
  EXPECT_NE(says("days since 2001-01-01", std::nan("")).find("is missing"), std::string::npos);
  EXPECT_NE(
      message_of<DataError>([] { parse_calendar("366_day"); }).find("'366_day' is not supported"),
      std::string::npos);
}

TEST(CfTime, KnowsCalendarsByAllTheirNames) {
  EXPECT_EQ(parse_calendar("gregorian"), Calendar::standard);
  EXPECT_EQ(parse_calendar("365_day"), Calendar::noleap);
  EXPECT_EQ(parse_calendar("NOLEAP"), Calendar::noleap);
  EXPECT_EQ(parse_calendar(to_string(Calendar::day_360)), Calendar::day_360);
}

TEST(CfTime, FormatsAndParsesTimes) {
  EXPECT_EQ(format_time(1553493600), "2019-03-25T06:00");
  EXPECT_EQ(format_time(1553493630), "2019-03-25T06:00:30");
  EXPECT_EQ(format_time(-1), "1969-12-31T23:59:59");
  EXPECT_EQ(parse_time("2019-03-25"), 1553472000);
  EXPECT_EQ(parse_time("2019-03-25 06:00Z"), 1553493600);
  EXPECT_EQ(format_time(parse_time("2001-02-30", Calendar::day_360), Calendar::day_360),
            "2001-02-30T00:00");
  EXPECT_THROW(parse_time("25.3.2019"), UsageError);
  EXPECT_THROW(parse_time("2019-02-30"), UsageError);
}

TEST(CfTime, CountsDaysOfTheYearFromZero) {
  EXPECT_EQ(day_of_year(parse_time("2019-01-01")), 0);
  EXPECT_EQ(day_of_year(parse_time("2020-12-31T12:00")), 365.5);
  EXPECT_EQ(day_of_year(parse_time("2020-12-31", Calendar::noleap), Calendar::noleap), 364);
}

}  // namespace
}  // namespace isobar::cf_time_test
