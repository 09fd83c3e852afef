// SPDX-License-Identifier: Apache-2.0
// Called on every rank, on the thread that runs forward and backward. All ranks take the same steps
// in the same order: what a step sends must meet its like on the others. A second copy of the
// network, which nothing is hooked to, has the weights of the first before each check and the
// profile: its gradients are what the measured ones are compared with, and its passes what
// computing alone takes.
#include <isobar/bench/measure_step.hpp>

#include <isobar/bench/measure.hpp>
#include <isobar/bench/step_check.hpp>
#include <isobar/core/stopwatch.hpp>
#include <torch/nn/module.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

#include "bench/cpu_meter.hpp"
#include "bench/memory_meter.hpp"

namespace isobar::bench {
namespace {

/// The parts of a step, and the whole.
enum Part { kZeroGrad, kForward, kBackward, kExposed, kOptimizer, kStep, kParts };
using PartTimes = std::array<double, kParts>;

class StepRun {
 public:
  StepRun(Subject& ranks, const StepCase& step_case, const StepOptions& options)
      : ranks_(ranks),
        options_(options),
        work_(step_case.make_workload()),
        plain_(step_case.make_workload()),
        sync_(step_case.make_sync(*work_.module)),
        optimize_(step_case.make_optimizer(*work_.module)),
        parameters_(trainable_parameters(*work_.module)) {}

  StepMeasurement measure() {
    StepMeasurement result;
    check(result);
    double fastest_s = std::numeric_limits<double>::max();
    for (int i = 0; i < std::max(options_.warmup, 1); ++i) {
      fastest_s = std::min(fastest_s, timed_step()[kStep]);
    }
    time(result, agree_on_repeats(fastest_s));
    profile(result);
    check(result);
    compare_parameters(result);
    result.sync = sync_->name();
    for (const auto& parameter : parameters_) result.parameters += parameter.numel();
    return result;
  }

 private:
  /// Up to the final gradients; the time of each part until then.
  PartTimes gradients() {
    PartTimes times{};
    const double exposed_s = sync_->totals().exposed_s;
    Stopwatch watch;
    sync_->zero_grad();
    times[kZeroGrad] = watch.restart();
    sync_->before_forward();
    const auto loss = work_.loss();
    wait_for(work_.device);
    times[kForward] = watch.restart();
    sync_->before_backward();
    loss.backward();
    sync_->finish();
    wait_for(work_.device);
    times[kExposed] = sync_->totals().exposed_s - exposed_s;
    times[kBackward] = watch.elapsed_s() - times[kExposed];
    return times;
  }

  PartTimes timed_step() {
    ranks_.barrier();
    const Stopwatch whole;
    auto times = gradients();
    Stopwatch watch;
    optimize_();
    wait_for(work_.device);
    times[kOptimizer] = watch.elapsed_s();
    times[kStep] = whole.elapsed_s();
    return times;
  }

  int agree_on_repeats(double fastest_s) {
    if (options_.repeats > 0) return options_.repeats;
    return std::atoi(ranks_.gather(std::to_string(choose_repeats(fastest_s))).front().c_str());
  }

  void time(StepMeasurement& result, int repeats) {
    std::array<std::vector<double>, kParts> by_part;
    const auto before = sync_->totals();
    CpuMeter processor;
    processor.resume();
    for (int i = 0; i < repeats; ++i) {
      const auto times = timed_step();
      for (int part = 0; part < kParts; ++part) by_part[part].push_back(times[part]);
    }
    processor.pause();
    result.cores_busy = processor.process_s() / processor.wall_s();
    set_traffic(result, before, repeats);
    std::array<Summary, kParts> over_steps;
    for (int part = 0; part < kParts; ++part) {
      over_steps[part] = summarize(largest_over_ranks(ranks_, by_part[part]));
    }
    result.step = over_steps[kStep];
    result.zero_grad_s = over_steps[kZeroGrad].median;
    result.forward_s = over_steps[kForward].median;
    result.backward_s = over_steps[kBackward].median;
    result.exposed_comm_s = over_steps[kExposed].median;
    result.optimizer_s = over_steps[kOptimizer].median;
  }

  void set_traffic(StepMeasurement& result, const SyncTotals& before, int steps) {
    const auto after = sync_->totals();
    const auto payload = static_cast<double>(after.payload_bytes - before.payload_bytes) / steps;
    const auto sent = after.sent_bytes < 0
                          ? allreduce_sent_fraction(ranks_.size()) * payload
                          : static_cast<double>(after.sent_bytes - before.sent_bytes) / steps;
    const auto largest = largest_over_ranks(ranks_, {payload, sent});
    result.payload_bytes = static_cast<int64_t>(largest[0]);
    result.sent_bytes = static_cast<int64_t>(largest[1]);
  }

  void profile(StepMeasurement& result) {
    copy_parameters(*work_.module, *plain_.module);
    result.compute = no_slower_than(profile_compute(ranks_, plain_, options_.profile_repeats),
                                    result.forward_s, result.backward_s);
    for (const auto& members : sync_->buckets()) {
      BucketReady bucket;
      for (const int64_t p : members) {
        bucket.ready_s = std::max(bucket.ready_s, result.compute.ready_s[p]);
        bucket.bytes += static_cast<int64_t>(parameters_[p].nbytes());
      }
      result.buckets.push_back(bucket);
    }
  }

  /// Gradients without any overlap come from a copy of the network that nothing is hooked to.
  /// What a step leaves unsent is no part of the mean, what it makes up for is.
  void check(StepMeasurement& result) {
    copy_parameters(*work_.module, *plain_.module);
    plain_.module->zero_grad();
    plain_.loss().backward();
    auto own = gradients_of(trainable_parameters(*plain_.module));
    const auto owed = sync_->residuals();
    gradients();
    const auto owes = sync_->residuals();
    for (size_t i = 0; i < owed.size(); ++i) own[i] += owed[i] - owes[i];
    if (options_.on_first_gradients && !checked_) options_.on_first_gradients(*work_.module);
    checked_ = true;
    const auto got = gradients_of(parameters_);
    const auto found = sync_->averages() ? deviation_from_mean(ranks_, got, own, sync_->loss())
                                         : deviation_from_own(ranks_, got, own);
    optimize_();
    result.deviation = std::max(result.deviation, found.largest);
    result.error = std::max(result.error, found.beyond_rounding);
  }

  void compare_parameters(StepMeasurement& result) {
    if (sync_->averages() && !same_on_all_ranks(ranks_, parameters_)) {
      result.error = std::numeric_limits<double>::max();
    }
  }

  Subject& ranks_;
  const StepOptions& options_;
  Workload work_;
  Workload plain_;
  std::unique_ptr<StepSync> sync_;
  std::function<void()> optimize_;
  std::vector<at::Tensor> parameters_;
  bool checked_ = false;
};

}  // namespace

StepMeasurement measure_step(Subject& ranks, const StepCase& step_case,
                             const StepOptions& options) {
  return StepRun(ranks, step_case, options).measure();
}

int64_t measure_added_bytes(Subject& ranks, const StepCase& step_case) {
  constexpr int kSteps = 3;
  const Workload work = step_case.make_workload();
  const auto added = added_bytes([&] {
    const auto sync = step_case.make_sync(*work.module);
    const auto optimize = step_case.make_optimizer(*work.module);
    for (int i = 0; i < kSteps; ++i) {
      sync->zero_grad();
      sync->before_forward();
      const auto loss = work.loss();
      sync->before_backward();
      loss.backward();
      sync->finish();
      optimize();
    }
  });
  return static_cast<int64_t>(largest_over_ranks(ranks, {static_cast<double>(added)})[0]);
}

}  // namespace isobar::bench
