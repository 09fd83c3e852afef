// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/ready_times.hpp>
#include <isobar/bench/step_sync.hpp>
#include <isobar/bench/subject.hpp>
#include <isobar/bench/workload.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/ddp/step_model.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace isobar::bench {

/// One way to train one network: what the measurement of a step is put around.
struct StepCase {
  MakeWorkload make_workload;
  std::function<std::unique_ptr<StepSync>(torch::nn::Module&)> make_sync;
  /// The update of a step, for the module whose parameters it changes.
  std::function<std::function<void()>(torch::nn::Module&)> make_optimizer;
};

struct StepOptions {
  int warmup = 2;
  /// 0 lets rank 0 choose: as many as take about a second, 10 at least.
  int repeats = 0;
  /// Passes without communication that say when gradients are there.
  int profile_repeats = 5;
  /// Called on every rank with the module after the first step's gradients are final.
  std::function<void(const torch::nn::Module&)> on_first_gradients = nullptr;
};

/// Medians over the timed steps, of each step and each part the slowest rank's time.
struct StepMeasurement {
  Summary step;
  double zero_grad_s = 0;
  double forward_s = 0;
  double backward_s = 0;  ///< until the gradients are final, without exposed_comm_s
  double exposed_comm_s = 0;
  double optimizer_s = 0;
  double cores_busy = 0;      ///< processor time by wall time of this rank's timed steps
  int64_t payload_bytes = 0;  ///< of one step, on the rank that hands over most
  int64_t sent_bytes = 0;     ///< of one step, on the rank that sends most
  int64_t parameters = 0;     ///< trainable values
  std::string sync;
  ComputeProfile compute;            ///< no_slower_than() the two above
  std::vector<BucketReady> buckets;  ///< from the profile
  double deviation = 0;              ///< of a step's gradients, see Deviation
  /// 0 where the gradients are right within rounding, and the parameters the same bits
  /// on all ranks; else the deviation, or the largest double.
  double error = 0;
};

/// Trains. The order is: a step whose gradients are checked against those of plain
/// backward passes, `warmup` steps, timed steps that begin at a barrier, the profile,
/// another checked step, and a comparison of the ranks' parameters. A step is
/// zero_grad, forward, backward, finish and the optimizer. `ranks` runs all_gather.
/// Collective; blocks.
StepMeasurement measure_step(Subject& ranks, const StepCase& step_case, const StepOptions& options);

/// What training from the first step on adds to this rank's memory, gradients and the
/// optimizer's state included, beyond network and data: see added_bytes. The largest
/// over ranks. Collective; blocks.
int64_t measure_added_bytes(Subject& ranks, const StepCase& step_case);

}  // namespace isobar::bench
