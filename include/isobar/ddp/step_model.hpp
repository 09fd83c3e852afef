// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace isobar {

/// What one allreduce of `bytes` over n ranks costs on a link:
///
///     seconds = latency_s + 2 (n - 1) / n * bytes / bytes_per_s
///
/// The bytes are what a ring, or any other algorithm that meets the lower bound,
/// makes each rank send. With one rank it is 0.
struct AllreduceCost {
  double latency_s = 0;    ///< of each collective, whatever its size
  double bytes_per_s = 0;  ///< payload that a rank sends in a second

  /// Throws UsageError unless bytes_per_s is positive, bytes are not negative and
  /// there is a rank.
  double seconds(int64_t bytes, int ranks) const;
};

/// Bytes that leave a rank for each byte handed to an allreduce: 2 (n - 1) / n.
double allreduce_sent_fraction(int ranks);

/// One measured allreduce.
struct AllreduceSample {
  int64_t bytes = 0;
  double seconds = 0;
};

/// The cost that fits allreduces over `ranks` ranks, two different sizes at least.
///
/// With x = 2 (n - 1) / n * bytes it minimises the sum over samples of the squared
/// relative error, ((latency_s + x / bytes_per_s - seconds) / seconds)^2, so that
/// short messages count as much as long ones; two sizes are met exactly. A latency
/// that came out negative is taken as 0, and the rest fitted once more.
///
/// Nothing for samples that take no longer the larger they are: larger ones have to be
/// measured. Throws UsageError for fewer than two sizes, fewer than two ranks and a
/// value that is not positive.
std::optional<AllreduceCost> fit_allreduce_cost(const std::vector<AllreduceSample>& samples,
                                                int ranks);

/// A bucket of gradients: when its last one is there, since the backward pass began,
/// and how much is handed to the allreduce.
struct BucketReady {
  double ready_s = 0;
  int64_t bytes = 0;
};

/// A training step without communication.
struct StepCompute {
  double forward_s = 0;
  double backward_s = 0;
  double optimizer_s = 0;
  std::vector<BucketReady> buckets{};  ///< in the order in which they are launched
};

struct StepPrediction {
  double step_s = 0;
  double exposed_comm_s = 0;  ///< communication after the end of the backward pass
  double bound_s = 0;         ///< what no schedule of these buckets beats
  std::vector<double> end_s;  ///< of each bucket's allreduce, since the backward pass began
};

/// What a step takes where the allreduces go on beside the backward pass.
///
/// There is one wire, and buckets use it in the order of the list: bucket k starts
/// once it is full and the wire is free,
///
///     end_k = max(ready_k, end_{k-1}) + cost.seconds(bytes_k, n)
///     exposed_comm_s = max(0, end_last - backward_s)
///     step_s = forward_s + backward_s + exposed_comm_s + optimizer_s
///     bound_s = forward_s + ready_0
///             + max(backward_s - ready_0, 2 (n - 1) / n * bytes / cost.bytes_per_s) + optimizer_s
///
/// with the bytes of all buckets and without latency. Where computation slows down
/// because the processor communicates, the step takes longer than this. Throws
/// UsageError for a time or a size that is negative, and as AllreduceCost::seconds().
StepPrediction predict_step(const StepCompute& compute, const AllreduceCost& cost, int ranks);

/// A bucket's way through a Reducer and its Compressor: computation on the thread that runs
/// the backward pass, and collectives, one after another.
struct StagedBucket {
  struct Stage {
    double compute_s = 0;  ///< before its collective
    int64_t bytes = 0;     ///< of the allreduce that takes as long
  };
  double ready_s = 0;  ///< since the backward pass began, had it not waited for any compute_s
  std::vector<Stage> stages;
  double complete_s = 0;  ///< after the last collective
};

/// The same for buckets in stages; those in `compute` do not count. A first stage runs
/// when its bucket is full and delays what follows in the backward pass; a later one when
/// a bucket fills and the collective before has ended, or after the backward pass. There
/// is one wire, which takes collectives in the order in which they are issued. `end_s` is
/// when each bucket's last collective has ended, and bound_s that of predict_step() with
/// the buckets' bytes and all their computation in the backward pass.
StepPrediction predict_staged_step(const StepCompute& compute,
                                   const std::vector<StagedBucket>& buckets,
                                   const AllreduceCost& cost, int ranks);

/// How a step meets its wire.
struct StepWire {
  /// What a collective takes, in seconds, by the bytes of its allreduce.
  std::function<double(int64_t bytes)> seconds;
  /// How fast computation goes on while a collective is under way, of what it does by itself:
  /// below 1 where the transport's threads, or a GPU's communication kernels, take from what
  /// computes. Above 0.
  double compute_rate = 1;
};

/// The same for any wire; bound_s is 0. Throws UsageError for a compute_rate that is not above 0
/// and at most 1, and for what predict_staged_step() refuses of buckets.
StepPrediction simulate_staged_step(const StepCompute& compute,
                                    const std::vector<StagedBucket>& buckets, const StepWire& wire);

}  // namespace isobar
