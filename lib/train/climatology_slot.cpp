// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/climatology_slot.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace isobar {
namespace {

constexpr int64_t kShortestYear = 360;  // days
constexpr int64_t kHalfWindow = 30;     // days

}  // namespace

ClimatologySlots::ClimatologySlots(const std::vector<int64_t>& times, Calendar calendar,
                                   const Period& period)
    : calendar_(calendar) {
  const auto within = indices_within(times, period);
  seasonal_ = !within.empty() &&
              times[within.back()] - times[within.front()] >= (kShortestYear - 1) * kDaySeconds;
}

int64_t ClimatologySlots::days() const noexcept {
  if (calendar_ == Calendar::day_360) return kShortestYear;
  return calendar_ == Calendar::noleap ? 365 : 366;
}

ClimatologySlot ClimatologySlots::of(int64_t time) const {
  return {to_date(time, calendar_).second_of_day,
          seasonal_ ? static_cast<int64_t>(std::floor(day_of_year(time, calendar_))) : 0};
}

double ClimatologySlots::weight(const ClimatologySlot& slot, const ClimatologySlot& from) const {
  if (slot.second != from.second) return 0;
  if (!seasonal_) return 1;
  const int64_t apart = std::abs(slot.day - from.day);
  return static_cast<double>(std::max<int64_t>(0, kHalfWindow - std::min(apart, days() - apart)));
}

}  // namespace isobar
