// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/cf_time.hpp>

#include <isobar/core/error.hpp>

#include <array>
#include <cmath>

#include "time_text.hpp"

namespace isobar {
namespace {

/// 1582-10-15, the first Gregorian day, counted in days from 1970-01-01.
constexpr int64_t kFirstGregorianDay = -141427;

constexpr std::array<int, 13> kDaysBefore = {0,   31,  59,  90,  120, 151, 181,
                                             212, 243, 273, 304, 334, 365};

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/// Days from 1970-01-01 (Gregorian). Years start in March, so that the leap day
/// comes last: H. Hinnant, "chrono-compatible low-level date algorithms",
/// days_from_civil. In the Julian calendar each fourth year is a leap year.
int64_t days_from_civil(int64_t year, int month, int day, bool julian) {
  if (month <= 2) --year;
  const int64_t day_of_march_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int64_t leap_days =
      floor_divide(year, 4) - (julian ? 2 : floor_divide(year, 100) - floor_divide(year, 400));
  return 365 * year + leap_days + day_of_march_year - 719468;
}

CalendarDate civil_from_days(int64_t days, bool julian) {
  // A guess of the year that is at most one off; then the date by difference.
  int64_t year = 1970 + floor_divide(days * 400, 146097);
  while (days_from_civil(year + 1, 1, 1, julian) <= days) ++year;
  while (days_from_civil(year, 1, 1, julian) > days) --year;
  int month = 12;
  while (days_from_civil(year, month, 1, julian) > days) --month;
  return {year, month, static_cast<int>(days - days_from_civil(year, month, 1, julian)) + 1, 0};
}

int64_t days_from_date(const CalendarDate& date, Calendar calendar) {
  switch (calendar) {
    case Calendar::noleap:
      return 365 * (date.year - 1970) + kDaysBefore[date.month - 1] + date.day - 1;
    case Calendar::day_360:
      return 360 * (date.year - 1970) + 30 * (date.month - 1) + date.day - 1;
    case Calendar::standard: {
      const int64_t days = days_from_civil(date.year, date.month, date.day, false);
      if (days >= kFirstGregorianDay) return days;
      return days_from_civil(date.year, date.month, date.day, true);
    }
    case Calendar::proleptic_gregorian:
      break;
  }
  return days_from_civil(date.year, date.month, date.day, false);
}

CalendarDate date_from_days(int64_t days, Calendar calendar) {
  if (calendar == Calendar::day_360) {
    const int64_t year = floor_divide(days, 360);
    const int64_t rest = days - 360 * year;
    return {1970 + year, static_cast<int>(rest / 30) + 1, static_cast<int>(rest % 30) + 1, 0};
  }
  if (calendar == Calendar::noleap) {
    const int64_t year = floor_divide(days, 365);
    const int64_t rest = days - 365 * year;
    int month = 12;
    while (kDaysBefore[month - 1] > rest) --month;
    return {1970 + year, month, static_cast<int>(rest - kDaysBefore[month - 1]) + 1, 0};
  }
  return civil_from_days(days, calendar == Calendar::standard && days < kFirstGregorianDay);
}

}  // namespace

Calendar parse_calendar(std::string_view name) {
  const std::string lower = lowered(name);
  if (lower == "standard" || lower == "gregorian") return Calendar::standard;
  if (lower == "proleptic_gregorian") return Calendar::proleptic_gregorian;
  if (lower == "noleap" || lower == "365_day") return Calendar::noleap;
  if (lower == "360_day") return Calendar::day_360;
  throw DataError(detail::join("calendar '", name,
                               "' is not supported; known: standard, gregorian, "
                               "proleptic_gregorian, noleap, 365_day, 360_day"));
}

std::string_view to_string(Calendar calendar) noexcept {
  switch (calendar) {
    case Calendar::proleptic_gregorian:
      return "proleptic_gregorian";
    case Calendar::noleap:
      return "noleap";
    case Calendar::day_360:
      return "360_day";
    case Calendar::standard:
      break;
  }
  return "standard";
}

CalendarDate to_date(int64_t seconds, Calendar calendar) {
  const int64_t days = floor_divide(seconds, kDaySeconds);
  CalendarDate date = date_from_days(days, calendar);
  date.second_of_day = seconds - days * kDaySeconds;
  return date;
}

int64_t to_seconds(const CalendarDate& date, Calendar calendar) {
  const bool plausible = date.month >= 1 && date.month <= 12 && date.day >= 1 && date.day <= 31;
  const int64_t days = plausible ? days_from_date(date, calendar) : 0;
  // A day that does not exist, such as 30 February, comes back as another.
  const CalendarDate back = date_from_days(days, calendar);
  if (!plausible || back.month != date.month || back.day != date.day) {
    throw DataError(detail::join("date ", date.year, "-", date.month, "-", date.day,
                                 " does not exist in the ", to_string(calendar), " calendar"));
  }
  return days * kDaySeconds + date.second_of_day;
}

double day_of_year(int64_t seconds, Calendar calendar) {
  const CalendarDate new_year{to_date(seconds, calendar).year, 1, 1, 0};
  return static_cast<double>(seconds - to_seconds(new_year, calendar)) / kDaySeconds;
}

std::vector<int64_t> decode_cf_time(const std::vector<double>& values, std::string_view units,
                                    Calendar calendar) {
  const TimeUnits parsed = parse_time_units(units);
  const int64_t reference = to_seconds(parsed.reference, calendar) - parsed.zone_seconds;
  std::vector<int64_t> seconds;
  seconds.reserve(values.size());
  for (const double value : values) {
    const double offset = std::round(value * parsed.unit_seconds);
    // Beyond this a double no longer counts single seconds.
    if (!(std::abs(offset) < 9e15)) {
      throw DataError(
          detail::join("time value ", value, " '", units, "' is missing or out of range"));
    }
    seconds.push_back(reference + static_cast<int64_t>(offset));
  }
  return seconds;
}

}  // namespace isobar
