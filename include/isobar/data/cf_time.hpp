// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {

constexpr int64_t kHourSeconds = 3600;
constexpr int64_t kDaySeconds = 86400;

/// How dates are counted: the calendars of the CF conventions, section 4.4.1.
///
/// `standard` (also called gregorian) is Julian before 1582-10-15, as CF and
/// udunits have it, and Gregorian from then on; `proleptic_gregorian` is
/// Gregorian throughout; `noleap` (365_day) has no 29 February; `day_360` has
/// twelve months of 30 days.
enum class Calendar { standard, proleptic_gregorian, noleap, day_360 };

/// The calendar of a CF `calendar` attribute. Throws DataError that names any
/// other, such as julian or 366_day.
Calendar parse_calendar(std::string_view name);

std::string_view to_string(Calendar calendar) noexcept;

/// A moment of a calendar. Months and days count from 1.
struct CalendarDate {
  int64_t year = 1970;
  int month = 1;
  int day = 1;
  int64_t second_of_day = 0;
};

/// The moment that lies `seconds` after 1970-01-01T00:00 of that calendar.
CalendarDate to_date(int64_t seconds, Calendar calendar);

/// Seconds from 1970-01-01T00:00 of that calendar; Unix time where the calendar
/// is standard and the date after 1582. Throws DataError for a date that the
/// calendar does not have.
int64_t to_seconds(const CalendarDate& date, Calendar calendar);

/// Seconds since 1970-01-01 of that calendar, rounded to whole seconds, for
/// `values` of a CF time variable with units such as "hours since 1900-01-01
/// 00:00:00.0". Units are seconds, minutes, hours and days and their usual
/// short forms; a time zone after the reference moment is taken off. Throws
/// DataError that names what it cannot read, months and years among it: these
/// have no fixed length.
std::vector<int64_t> decode_cf_time(const std::vector<double>& values, std::string_view units,
                                    Calendar calendar);

/// "2019-03-25T06:00", with seconds only where there are any.
std::string format_time(int64_t seconds, Calendar calendar = Calendar::standard);

/// The inverse: "2019-03-25", "2019-03-25T06:00" or "2019-03-25T06:00:30", with
/// a space for the T and a final Z if wanted. Throws UsageError otherwise.
int64_t parse_time(std::string_view text, Calendar calendar = Calendar::standard);

/// Days since the first of January, with their fraction: 0 at its midnight.
double day_of_year(int64_t seconds, Calendar calendar = Calendar::standard);

}  // namespace isobar
