// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {

/// The times from `begin` up to, and without, `end`; seconds since 1970-01-01
/// of the data's calendar.
struct Period {
  int64_t begin = 0;
  int64_t end = 0;

  bool contains(int64_t time) const noexcept { return time >= begin && time < end; }
};

/// A period from two texts that parse_time reads, such as "2019-03-01" and
/// "2019-03-20T12:00"; the end is excluded. Throws UsageError for an empty one.
Period parse_period(std::string_view begin, std::string_view end,
                    Calendar calendar = Calendar::standard);

/// "2019-03-01T00:00 to 2019-03-20T12:00".
std::string format_period(const Period& period, Calendar calendar = Calendar::standard);

/// Positions of those `times` that lie within the period.
std::vector<int64_t> indices_within(const std::vector<int64_t>& times, const Period& period);

}  // namespace isobar
