// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/schedule.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace isobar {

double LearningRateSchedule::at(std::int64_t step) const {
  ISOBAR_CHECK(peak >= 0 && final >= 0,
               "learning-rate schedule: peak and final must not be negative, got ", peak, " and ",
               final);
  ISOBAR_CHECK(warmup_steps >= 0 && warmup_steps <= total_steps,
               "learning-rate schedule: warmup_steps must lie in [0, total_steps = ", total_steps,
               "], got ", warmup_steps);
  ISOBAR_CHECK(step >= 0, "learning-rate schedule: step must not be negative, got ", step);
  if (step < warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps + 1);
  }
  if (step >= total_steps) return final;
  const double share =
      static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  return final + (peak - final) * (1 + std::cos(std::numbers::pi * share)) / 2;
}

std::int64_t RolloutSchedule::at(std::int64_t step) const {
  ISOBAR_CHECK(start >= 1 && start <= maximum, "rollout: start must lie in [1, maximum = ", maximum,
               "], got ", start);
  ISOBAR_CHECK(every >= 0 && step >= 0, "rollout: every and step must not be negative, got ", every,
               " and ", step);
  return every == 0 ? start : std::min(maximum, start + step / every);
}

}  // namespace isobar
