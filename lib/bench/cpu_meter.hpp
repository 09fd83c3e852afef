// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace isobar::bench {

/// Adds up CPU time over the spans between resume() and pause().
class CpuMeter {
 public:
  void resume();
  void pause();

  /// Seconds of the process, and those of its threads other than the calling one.
  double process_s() const noexcept { return process_s_; }
  double other_threads_s() const noexcept { return process_s_ - thread_s_; }
  double wall_s() const noexcept { return wall_s_; }

 private:
  double process_s_ = 0;
  double thread_s_ = 0;
  double wall_s_ = 0;
};

/// Seconds that the machine's cores together have spent in softirqs since it
/// started, where the kernel does a network's work; to 0.01 s. 0 where the system
/// does not tell.
double machine_softirq_s();

}  // namespace isobar::bench
