// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/train/step_profile.hpp>
#include <isobar/train/trainer.hpp>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "train/delay_meter.hpp"
#include "train/energy_meter.hpp"
#include "train/step_timer.hpp"

namespace isobar {

/// Measures the steps of one training run on one rank. Counts the collectives of the grid's world
/// while it lives.
class StepProfiler {
 public:
  /// Both must outlive this.
  StepProfiler(const ProcessGrid& grid, const TrainerOptions& options);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  StepTimer& timer() { return timer_; }

  /// Steps begin, or go on after what is none.
  void resume();
  /// Step `step` is over, counted from 1: its time, and what it asked for.
  void end_step(int64_t step);
  /// What comes until resume() is no step.
  void pause();

  /// Throws the same Error on every rank once a step of one of them has made more collectives than
  /// it may. Collective where there is a budget; blocks.
  void check_budget();

  /// At a log line: of counters that do not count for ever.
  void read_energy() { energy_.read(); }

  /// Collective; blocks.
  StepProfile gather();

 private:
  using Calls = std::map<std::string, int64_t>;

  Calls calls() const;
  void judge(int64_t step);
  double flop_per_step() const;
  std::vector<double> lengths() const;
  StepTimeline::Rank& kept(int64_t step) { return kept_[step % kKeptSteps]; }
  std::string own_text() const;
  StepTimeline gather_timeline(const std::vector<double>& lengths,
                               const std::vector<RankProfile>& ranks);

  const ProcessGrid& grid_;
  const TrainerOptions& options_;
  CollectiveCensus& census_;
  StepTimer timer_;
  EnergyMeter energy_;
  DelayMeter delay_{run_delay_s};  ///< of the loop's thread, whose waiting lengthens a step
  DelayMeter throttled_{throttled_s};
  DelayMeter helpers_{other_threads_cpu_s};
  int64_t warmup_;
  int64_t steps_ = 0;  ///< that were measured
  /// Of which one is shown in full. Some, so that it need not be one with a log line; few, so that
  /// hundreds of waits in each stay a small memory.
  static constexpr int64_t kKeptSteps = 15;
  std::array<StepTimeline::Rank, kKeptSteps> kept_;  ///< step s is at s modulo kKeptSteps
  int64_t last_step_ = 0;
  // At the end of the warm-up.
  StepParts before_{};
  std::vector<CollectiveCount> counts_before_;
  Calls calls_before_;  ///< at the beginning of the step
  std::string excess_;  ///< the first step that asked for too much
};

}  // namespace isobar
