// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

#include <cstdint>
#include <string>

namespace isobar {

/// What `isobar evaluate` holds of the climatology while it scores the test period.
struct ClimatologyPlan {
  int64_t fields = 0;          ///< mean fields that targets in the test period can need
  int64_t fields_at_once = 0;  ///< of these, on one rank
  int64_t peak_bytes = 0;      ///< of those, while they are computed
  std::string assumed;         ///< in words, what stands in for data that are not there; or empty
};

/// For the largest rank of a model, with `points` points. Times and calendar are the data's where
/// data.path is there. Otherwise fields every data.step_hours are assumed, in the standard calendar
/// or, for dates that only that one has, in 360_day. Throws as training does for a period without
/// a time in the data, or that is none.
ClimatologyPlan plan_climatology(const Experiment& experiment, int64_t points);

}  // namespace isobar
