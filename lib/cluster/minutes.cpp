// SPDX-License-Identifier: Apache-2.0
// Time limits as Slurm reads and writes them.
#include <isobar/cluster/job.hpp>

#include <isobar/core/error.hpp>

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

namespace isobar {
namespace {

constexpr std::int64_t kMinutesADay = 24 * 60;
/// Of one field; what it comes to in seconds fits then.
constexpr std::int64_t kMostOfAField = std::numeric_limits<int>::max();

/// The numbers between colons; nothing where something else stands there. Fields but the first stay
/// below 60.
std::optional<std::vector<std::int64_t>> fields_of(std::string_view text) {
  std::vector<std::int64_t> fields;
  while (true) {
    const auto colon = text.find(':');
    const auto word = text.substr(0, colon);
    std::int64_t value = -1;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    const bool whole = error == std::errc() && rest == word.data() + word.size();
    if (!whole || value < 0 || value > kMostOfAField) return std::nullopt;
    if (!fields.empty() && value >= 60) return std::nullopt;
    fields.push_back(value);
    if (colon == std::string_view::npos) return fields;
    text.remove_prefix(colon + 1);
  }
}

/// Seconds of "MM", "MM:SS" and "H:MM:SS".
std::optional<std::int64_t> seconds_of(std::string_view text) {
  const auto fields = fields_of(text);
  if (!fields || fields->size() > 3) return std::nullopt;
  const auto& at = *fields;
  if (at.size() == 1) return at[0] * 60;
  if (at.size() == 2) return at[0] * 60 + at[1];
  return at[0] * 3600 + at[1] * 60 + at[2];
}

/// Seconds of "HH", "HH:MM" and "HH:MM:SS", which follow days.
std::optional<std::int64_t> seconds_of_a_day(std::string_view text) {
  const auto fields = fields_of(text);
  if (!fields || fields->size() > 3 || fields->front() >= 24) return std::nullopt;
  std::int64_t seconds = 0, unit = 3600;
  for (const auto value : *fields) {
    seconds += value * unit;
    unit /= 60;
  }
  return seconds;
}

std::optional<std::int64_t> seconds_with_days(std::string_view text) {
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) return seconds_of(text);
  const auto days = fields_of(text.substr(0, dash));
  const auto rest = seconds_of_a_day(text.substr(dash + 1));
  if (!days || days->size() != 1 || !rest) return std::nullopt;
  return days->front() * kMinutesADay * 60 + *rest;
}

}  // namespace

std::int64_t parse_minutes(const std::string& text) {
  const auto seconds = seconds_with_days(text);
  ISOBAR_CHECK(seconds && *seconds > 0, "'", text,
               "' is no time limit, wanted minutes such as 90, or a time such as 24:00:00 "
               "(H:MM:SS) or 2-00:00:00 (D-HH:MM:SS)");
  return (*seconds + 59) / 60;
}

std::string minutes_text(std::int64_t minutes) {
  ISOBAR_CHECK(minutes >= 0, "a time limit cannot be ", minutes, " minutes");
  const auto days = minutes / kMinutesADay;
  const auto time = fmt::format("{:02}:{:02}:00", minutes % kMinutesADay / 60, minutes % 60);
  return days > 0 ? fmt::format("{}-{}", days, time) : time;
}

}  // namespace isobar
