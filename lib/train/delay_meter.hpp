// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/machine.hpp>

#include <algorithm>
#include <optional>

namespace isobar {

/// How much one of the system's counters has risen while steps were made: run_delay_s(), of the
/// thread that calls, throttled_s() or other_threads_cpu_s().
class DelayMeter {
 public:
  using Counter = std::optional<double> (*)();

  explicit DelayMeter(Counter counter) : counter_(counter) { skip(); }

  /// Takes in what was counted since the last read() or skip().
  void read() {
    const auto now = counter_();
    if (now && last_) sum_ += std::max(0.0, *now - *last_);
    last_ = now;
  }

  /// What was counted since then is left out.
  void skip() { last_ = counter_(); }

  /// Nothing where it is not counted here.
  std::optional<double> seconds() const {
    return last_ ? std::optional<double>(sum_) : std::nullopt;
  }

 private:
  Counter counter_;
  std::optional<double> last_;
  double sum_ = 0;
};

}  // namespace isobar
