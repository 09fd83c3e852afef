// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace isobar {

std::string lowered(std::string_view text);

/// "hours since 1900-01-01 00:00 +01:00" in parts.
struct TimeUnits {
  double unit_seconds = 1;
  CalendarDate reference;
  int64_t zone_seconds = 0;
};

/// Seconds of a unit of time that stands alone, such as "hours". Throws DataError.
double parse_time_unit(std::string_view unit);

/// Throws DataError that names the part it cannot read.
TimeUnits parse_time_units(std::string_view units);

}  // namespace isobar
