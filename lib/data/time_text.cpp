// SPDX-License-Identifier: Apache-2.0
#include "time_text.hpp"

#include <isobar/core/error.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <regex>

namespace isobar {
namespace {

/// std::regex recurses, so what a damaged file gives is kept short.
constexpr std::size_t kLongestText = 200;

/// Year, month, day; then hour, minute and seconds; then a zone.
const std::regex& date_pattern() {
  static const std::regex pattern(
      R"(^\s*([+-]?\d{1,6})-(\d{1,2})-(\d{1,2}))"
      R"((?:[T\s]\s*(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?)?)?)"
      R"(\s*(Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?)?\s*$)",
      std::regex::icase);
  return pattern;
}

struct DateInZone {
  CalendarDate date;
  int64_t zone_seconds = 0;
};

int64_t number(const std::ssub_match& part) { return part.matched ? std::stoll(part.str()) : 0; }

/// "+01:00", "-0330", "+1", "Z" in seconds east of Greenwich.
int64_t zone_seconds(std::string text) {
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text.front())) != 0) return 0;
  const int64_t sign = text.front() == '-' ? -1 : 1;
  text.erase(std::remove(text.begin(), text.end(), ':'), text.end());
  const std::size_t hour_digits = std::min<std::size_t>(text.size() - 1, 2);
  const int64_t hours = std::stoll(text.substr(1, hour_digits));
  const std::string minutes = text.substr(1 + hour_digits);
  return sign * (3600 * hours + (minutes.empty() ? 0 : 60 * std::stoll(minutes)));
}

std::optional<DateInZone> parse_date(std::string_view text) {
  const std::string copy(text.substr(0, kLongestText));
  std::smatch part;
  if (!std::regex_match(copy, part, date_pattern())) return std::nullopt;
  const int64_t hour = number(part[4]);
  const int64_t minute = number(part[5]);
  const double second = part[6].matched ? std::stod(part[6].str()) : 0;
  if (hour > 24 || minute > 59 || second >= 61) return std::nullopt;
  DateInZone parsed;
  parsed.date = {number(part[1]), static_cast<int>(number(part[2])),
                 static_cast<int>(number(part[3])),
                 3600 * hour + 60 * minute + static_cast<int64_t>(std::llround(second))};
  parsed.zone_seconds = zone_seconds(part[7].str());
  return parsed;
}

double unit_seconds(const std::string& unit, std::string_view units) {
  if (unit == "seconds" || unit == "second" || unit == "secs" || unit == "sec" || unit == "s")
    return 1;
  if (unit == "minutes" || unit == "minute" || unit == "mins" || unit == "min") return 60;
  if (unit == "hours" || unit == "hour" || unit == "hrs" || unit == "hr" || unit == "h")
    return 3600;
  if (unit == "days" || unit == "day" || unit == "d") return 86400;
  if (unit == "milliseconds" || unit == "millisecond" || unit == "msec" || unit == "ms")
    return 1e-3;
  if (unit == "microseconds" || unit == "microsecond") return 1e-6;
  if (unit == "nanoseconds" || unit == "nanosecond") return 1e-9;
  throw DataError(detail::join(
      "time units '", units, "': unit '", unit,
      "' is not supported; known: days, hours, minutes, seconds and their parts to nanoseconds"));
}

}  // namespace

std::string lowered(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

double parse_time_unit(std::string_view unit) { return unit_seconds(lowered(unit), unit); }

TimeUnits parse_time_units(std::string_view units) {
  static const std::regex pattern(R"(^\s*(\S+)\s+since\s+(.*)$)", std::regex::icase);
  const std::string copy(units.substr(0, kLongestText));
  std::smatch part;
  if (!std::regex_match(copy, part, pattern)) {
    throw DataError(
        detail::join("time units '", units, "' are not of the form 'hours since 1900-01-01'"));
  }
  const double seconds = unit_seconds(lowered(part[1].str()), units);
  const auto parsed = parse_date(part[2].str());
  if (!parsed) {
    throw DataError(detail::join("time units '", units, "': '", part[2].str(), "' is not a date"));
  }
  return {seconds, parsed->date, parsed->zone_seconds};
}

std::string format_time(int64_t seconds, Calendar calendar) {
  const CalendarDate date = to_date(seconds, calendar);
  const int64_t s = date.second_of_day;
  std::string text = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}", date.year, date.month, date.day,
                                 s / 3600, s / 60 % 60);
  if (s % 60 != 0) text += fmt::format(":{:02}", s % 60);
  return text;
}

int64_t parse_time(std::string_view text, Calendar calendar) {
  const auto parsed = parse_date(text);
  ISOBAR_CHECK(parsed, "time '", text, "' is not of the form 2019-03-25 or 2019-03-25T06:00");
  try {
    return to_seconds(parsed->date, calendar) - parsed->zone_seconds;
  } catch (const DataError& error) {
    throw UsageError(detail::join("time '", text, "': ", error.what()));
  }
}

}  // namespace isobar
