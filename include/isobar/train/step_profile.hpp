// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// Where a training step's time goes, by the clock of the host. On a GPU passes go on beside the
/// host, which counts a part's time where it has to wait for it.
enum class StepPart {
  data_wait,     ///< for the loader
  copy,          ///< of a batch to the device
  forward,       ///< the task's loss
  backward,      ///< with the hooks that send gradients
  exposed_comm,  ///< any wait for a collective, in whatever part it falls, which is then without it
  optimizer,     ///< clipping, the update and averages of weights
  other          ///< all else: the reducer's own work, log lines
};
inline constexpr int kStepParts = 7;

/// Seconds by StepPart. They sum to the time that they were taken over.
using StepParts = std::array<double, kStepParts>;

/// Such as "data_wait".
const char* name_of(StepPart part);

/// What a profile is made of, and what it may be judged by.
struct ProfileOptions {
  /// Steps at the beginning that are left out, of short runs a quarter of all.
  int64_t warmup_steps = 5;
  /// Of this rank's forward and backward pass over a batch, for a loss that covers one step of a
  /// forecast; what is computed again does not count. 0: not known.
  double flop_per_pass = 0;
  /// What a rank's processor can do at most; 0: not known.
  double peak_flop_per_s = 0;
  /// How many collectives a step may make by who asks for them; nobody else may then ask for any.
  /// Warm-up, validation and checkpoints are free.
  std::optional<std::map<std::string, int64_t>> collectives = {};
};

/// Of one rank, seconds a step.
struct RankProfile {
  std::string host;
  double step_s = 0;
  StepParts seconds{};
  int64_t peak_memory_bytes = 0;         ///< resident, of the whole process
  int64_t device_peak_memory_bytes = 0;  ///< of the device's allocator; 0 without one
  /// That the thread of its loop, which computes, was ready to run and did not; nothing where Linux
  /// does not count it. Its helpers (OpenMP's) are not in it.
  std::optional<double> run_delay_s = {};
  /// That a quota of its control group kept its threads from running, summed over cores.
  std::optional<double> throttled_s = {};
  /// Processor time of its process's other threads: the loader's, those that communicate, OpenMP's.
  std::optional<double> helpers_cpu_s = {};
};

/// A CollectiveCount by step: the mean over steps and ranks.
struct CollectiveProfile {
  std::string asker;
  std::string operation;
  double calls = 0;
  double bytes = 0;
  double seconds = 0;
  double exposed_s = 0;
};

/// What one step was made of, by rank. Seconds are since the rank's own step began: clocks of
/// different ranks are not compared.
struct StepTimeline {
  /// What the loop did; one follows the other without a gap. Where gradients are accumulated, each
  /// batch has parts of its own.
  struct Span {
    StepPart part = StepPart::other;
    double begin_s = 0;
    double end_s = 0;
  };
  /// A bucket's reduction, in one collective or several.
  struct Bucket {
    int64_t index = 0;   ///< in the plan
    int64_t bytes = 0;   ///< of its collectives, as a CollectiveCount has them
    double begin_s = 0;  ///< it was full, those before it had left, and it was issued
    double end_s = 0;    ///< the rank first saw that it had ended, see CollectiveSpan
    double waited_s = 0;
  };
  struct Rank {
    int rank = 0;
    double step_s = 0;
    std::vector<Span> parts;
    std::vector<Bucket> buckets;  ///< in the order in which they were waited for
  };

  /// Of more ranks there are the one that has most of its own to do, the one that has least, and of
  /// the others some, evenly.
  static constexpr int kMostRanks = 16;

  int64_t step = 0;  ///< its number, from 1
  std::vector<Rank> ranks;
};

/// How a training run spent its steps; the same on all ranks.
struct StepProfile {
  int64_t steps = 0;         ///< that were measured
  int64_t warmup_steps = 0;  ///< that came before and were not
  double step_s = 0;         ///< the mean over steps and ranks, without validation and checkpoints
  double samples_per_s = 0;  ///< of all replicas
  std::optional<double> flop_per_step;  ///< of all ranks
  std::optional<double> mfu;            ///< share of the ranks' peak
  /// That the measured steps took on all nodes: processors, and memory where it is counted apart.
  std::optional<double> energy_j;
  std::vector<RankProfile> ranks;
  std::vector<CollectiveProfile> collectives;
  StepTimeline timeline;  ///< of the step of median length among the last ones

  int64_t peak_memory_bytes() const;  ///< the most of a rank
};

/// The profile as it lies in a run's folder, "isobar.profile.1" (docs/profile.md).
nlohmann::json profile_json(const StepProfile& profile);

/// For people: the parts of a step.
std::string profile_table(const StepProfile& profile);

/// For people: the collectives of a step.
std::string collectives_table(const StepProfile& profile);

}  // namespace isobar
