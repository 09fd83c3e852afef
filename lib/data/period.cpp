// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/period.hpp>

#include <isobar/core/error.hpp>

namespace isobar {

Period parse_period(std::string_view begin, std::string_view end, Calendar calendar) {
  const Period period{parse_time(begin, calendar), parse_time(end, calendar)};
  ISOBAR_CHECK(period.begin < period.end, "period from '", begin, "' to '", end,
               "' is empty; its end is excluded and has to come after its begin");
  return period;
}

std::string format_period(const Period& period, Calendar calendar) {
  return format_time(period.begin, calendar) + " to " + format_time(period.end, calendar);
}

std::vector<int64_t> indices_within(const std::vector<int64_t>& times, const Period& period) {
  std::vector<int64_t> indices;
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (period.contains(times[i])) indices.push_back(static_cast<int64_t>(i));
  }
  return indices;
}

}  // namespace isobar
