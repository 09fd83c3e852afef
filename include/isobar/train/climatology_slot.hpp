// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>
#include <isobar/data/period.hpp>

#include <compare>
#include <cstdint>
#include <vector>

namespace isobar {

/// What a climatology has one mean field of.
struct ClimatologySlot {
  int64_t second = 0;  ///< of the day
  int64_t day = 0;     ///< of the year, from 0; 0 where there are no seasons

  auto operator<=>(const ClimatologySlot&) const = default;
};

/// The rule by which a climatology tells times apart: by time of day and, with seasons, by day of
/// the year as well. Evaluation computes and divides climatologies by it, planning counts by it.
class ClimatologySlots {
 public:
  /// Of the mean over the data's `times` within a period. It has seasons where these span 360 days
  /// or more: a year, in the shortest calendar.
  ClimatologySlots(const std::vector<int64_t>& times, Calendar calendar, const Period& period);

  bool seasonal() const noexcept { return seasonal_; }
  /// Of a year: 366 in the calendars that have leap years.
  int64_t days() const noexcept;

  ClimatologySlot of(int64_t time) const;
  /// What a field of slot `from` weighs in the mean of `slot`. Whole numbers, so that their sums
  /// are exact in float32 and the same in any order.
  double weight(const ClimatologySlot& slot, const ClimatologySlot& from) const;

 private:
  Calendar calendar_;
  bool seasonal_ = false;
};

}  // namespace isobar
