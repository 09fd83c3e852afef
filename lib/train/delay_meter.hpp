// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/machine.hpp>

#include <algorithm>
#include <optional>

namespace isobar {

/// How long this process's threads waited for a core while steps were made.
class DelayMeter {
 public:
  DelayMeter() { skip(); }

  /// Counts what they waited since the last read() or skip().
  void read() {
    const auto now = run_delay_s();
    if (now && last_) sum_ += std::max(0.0, *now - *last_);  // less where a thread has ended
    last_ = now;
  }

  /// What they waited since then is not counted.
  void skip() { last_ = run_delay_s(); }

  /// Nothing where it is not counted here.
  std::optional<double> seconds() const {
    return last_ ? std::optional<double>(sum_) : std::nullopt;
  }

 private:
  std::optional<double> last_;
  double sum_ = 0;
};

}  // namespace isobar
