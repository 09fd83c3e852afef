// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace isobar {

/// Measures elapsed time on the monotonic clock; it runs from construction.
class Stopwatch {
 public:
  /// Seconds since construction or the last restart.
  double elapsed_s() const { return seconds_between(start_, Clock::now()); }

  /// Seconds until now, as elapsed_s(), and starts again from zero: successive
  /// calls add up to the whole without a gap.
  double restart() {
    const Clock::time_point now = Clock::now();
    const double elapsed = seconds_between(start_, now);
    start_ = now;
    return elapsed;
  }

 private:
  using Clock = std::chrono::steady_clock;

  static double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  }

  Clock::time_point start_ = Clock::now();
};

}  // namespace isobar
