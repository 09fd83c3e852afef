// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/census.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/train/step_profile.hpp>

namespace isobar {

/// Shares the time of training steps out over their parts, without a gap: a lap gives what went by
/// since the one before to a part, but for what was spent in waits for collectives.
class StepTimer {
 public:
  /// `census` must outlive this.
  explicit StepTimer(const CollectiveCensus& census) : census_(census) { restart(); }

  void lap(StepPart part) {
    const double exposed_s = census_.exposed_s();
    const double waited_s = exposed_s - exposed_s_;
    exposed_s_ = exposed_s;
    seconds(part) += clock_.restart() - waited_s;
    seconds(StepPart::exposed_comm) += waited_s;
  }

  /// What went by since the last lap belongs to no step.
  void restart() {
    clock_.restart();
    exposed_s_ = census_.exposed_s();
  }

  /// Of all laps.
  const StepParts& total() const { return total_; }

 private:
  double& seconds(StepPart part) { return total_[static_cast<int>(part)]; }

  const CollectiveCensus& census_;
  Stopwatch clock_;
  double exposed_s_ = 0;
  StepParts total_{};
};

}  // namespace isobar
