// SPDX-License-Identifier: Apache-2.0
// What a step should take: functions of their arguments, for `isobar bench step` and for the choice
// of a compressor (compress/break_even.cpp). Formulas are in the header.
//
// StagedStep goes through a step as BucketCollectives does: one thread, and one wire that takes
// collectives in the order in which they are started. Where launch(), advance() or complete()
// change there, it changes here, or compression is chosen for steps that nobody runs.
#include <isobar/ddp/step_model.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>

namespace isobar {
namespace {

void check_samples(const std::vector<AllreduceSample>& samples, int ranks) {
  ISOBAR_CHECK(ranks > 1, "fit_allreduce_cost: wanted two ranks or more, got ", ranks);
  bool sizes_differ = false;
  for (const auto& sample : samples) {
    ISOBAR_CHECK(sample.bytes > 0 && sample.seconds > 0, "fit_allreduce_cost: a sample of ",
                 sample.bytes, " bytes in ", sample.seconds, " s, wanted positive values");
    sizes_differ = sizes_differ || sample.bytes != samples.front().bytes;
  }
  ISOBAR_CHECK(sizes_differ, "fit_allreduce_cost: wanted two different sizes or more, got ",
               samples.size(), " samples of one");
}

/// Sums over the samples that the normal equations need, each weighted with 1 / seconds^2.
struct Moments {
  double weight = 0, x = 0, xx = 0, t = 0, xt = 0;
};

Moments moments_of(const std::vector<AllreduceSample>& samples, int ranks) {
  Moments sum;
  for (const auto& [bytes, seconds] : samples) {
    const double w = 1 / (seconds * seconds);
    const double x = allreduce_sent_fraction(ranks) * static_cast<double>(bytes);
    sum.weight += w;
    sum.x += w * x;
    sum.xx += w * x * x;
    sum.t += w * seconds;
    sum.xt += w * x * seconds;
  }
  return sum;
}

void check_compute(const StepCompute& compute) {
  ISOBAR_CHECK(compute.forward_s >= 0 && compute.backward_s >= 0 && compute.optimizer_s >= 0,
               "predict_step: forward ", compute.forward_s, " s, backward ", compute.backward_s,
               " s and optimizer ", compute.optimizer_s, " s must not be negative");
  for (const auto& bucket : compute.buckets) {
    ISOBAR_CHECK(bucket.ready_s >= 0 && bucket.bytes >= 0, "predict_step: a bucket of ",
                 bucket.bytes, " bytes is ready at ", bucket.ready_s,
                 " s; neither may be negative");
  }
}

double bound(const StepCompute& compute, const AllreduceCost& cost, int ranks) {
  const double first =
      compute.buckets.empty() ? compute.backward_s : compute.buckets.front().ready_s;
  int64_t bytes = 0;
  for (const auto& bucket : compute.buckets) bytes += bucket.bytes;
  const AllreduceCost without_latency{.latency_s = 0, .bytes_per_s = cost.bytes_per_s};
  return compute.forward_s + first +
         std::max(compute.backward_s - first, without_latency.seconds(bytes, ranks)) +
         compute.optimizer_s;
}

}  // namespace

double allreduce_sent_fraction(int ranks) {
  ISOBAR_CHECK(ranks > 0, "allreduce_sent_fraction: wanted a rank at least, got ", ranks);
  return 2.0 * (ranks - 1) / ranks;
}

double AllreduceCost::seconds(int64_t bytes, int ranks) const {
  const double sent = allreduce_sent_fraction(ranks) * static_cast<double>(bytes);
  ISOBAR_CHECK(bytes >= 0, "AllreduceCost: bytes must not be negative, got ", bytes);
  if (ranks == 1) return 0;
  ISOBAR_CHECK(bytes_per_s > 0, "AllreduceCost: bytes_per_s must be positive, got ", bytes_per_s);
  return latency_s + sent / bytes_per_s;
}

std::optional<AllreduceCost> fit_allreduce_cost(const std::vector<AllreduceSample>& samples,
                                                int ranks) {
  check_samples(samples, ranks);
  const auto m = moments_of(samples, ranks);
  double slope = (m.weight * m.xt - m.x * m.t) / (m.weight * m.xx - m.x * m.x);
  double latency = (m.t - slope * m.x) / m.weight;
  if (latency < 0) {
    latency = 0;
    slope = m.xt / m.xx;
  }
  if (slope <= 0) return std::nullopt;
  return AllreduceCost{.latency_s = latency, .bytes_per_s = 1 / slope};
}

StepPrediction predict_step(const StepCompute& compute, const AllreduceCost& cost, int ranks) {
  check_compute(compute);
  StepPrediction result;
  double wire_free_s = 0;
  for (const auto& bucket : compute.buckets) {
    wire_free_s = std::max(bucket.ready_s, wire_free_s) + cost.seconds(bucket.bytes, ranks);
    result.end_s.push_back(wire_free_s);
  }
  result.exposed_comm_s = std::max(0.0, wire_free_s - compute.backward_s);
  result.step_s =
      compute.forward_s + compute.backward_s + result.exposed_comm_s + compute.optimizer_s;
  result.bound_s = bound(compute, cost, ranks);
  return result;
}

namespace {

/// One processor and one wire, from the beginning of the backward pass.
class StagedStep {
 public:
  StagedStep(const std::vector<StagedBucket>& buckets, const StepWire& wire)
      : buckets_(buckets), wire_(wire), started_(stages(), 0), end_s_(buckets.size()) {}

  void run(double backward_s) {
    for (const auto& bucket : buckets_) {
      compute_until(bucket.ready_s);
      start(0);
      advance();
    }
    compute_until(backward_s);
    for (size_t stage = 1; stage < started_.size(); ++stage) {
      while (started_[stage] < buckets_.size()) {
        wait_for(end_s_[started_[stage]]);
        start(stage);
      }
    }
    for (size_t b = 0; b < buckets_.size(); ++b) {
      wait_for(end_s_[b]);
      compute(buckets_[b].complete_s);
    }
  }

  double now_s() const { return now_s_; }
  double waited_s() const { return waited_s_; }
  std::vector<double> end_s() const { return end_s_; }

 private:
  size_t stages() const { return buckets_.empty() ? 0 : buckets_.front().stages.size(); }

  void start(size_t stage) {
    const size_t b = started_[stage]++;
    const auto& [compute_s, bytes] = buckets_[b].stages[stage];
    compute(compute_s);
    wire_free_s_ = std::max(wire_free_s_, now_s_) + wire_.seconds(bytes);
    end_s_[b] = wire_free_s_;
  }

  /// The backward pass goes on to where it would be at `ready_s` by itself.
  void compute_until(double ready_s) {
    compute(std::max(0.0, ready_s - passed_s_));
    passed_s_ = std::max(passed_s_, ready_s);
  }

  /// Slower while the wire is busy.
  void compute(double seconds) {
    const double beside_s = std::max(0.0, wire_free_s_ - now_s_) * wire_.compute_rate;
    now_s_ += seconds <= beside_s ? seconds / wire_.compute_rate
                                  : beside_s / wire_.compute_rate + (seconds - beside_s);
  }

  /// Whatever may follow on a collective that has ended.
  void advance() {
    for (size_t stage = 1; stage < started_.size(); ++stage) {
      while (started_[stage] < started_[stage - 1] && end_s_[started_[stage]] <= now_s_) {
        start(stage);
      }
    }
  }

  void wait_for(double time_s) {
    waited_s_ += std::max(0.0, time_s - now_s_);
    now_s_ = std::max(now_s_, time_s);
  }

  const std::vector<StagedBucket>& buckets_;
  const StepWire& wire_;
  std::vector<size_t> started_;  ///< buckets, by stage
  std::vector<double> end_s_;    ///< of each bucket's latest collective
  double passed_s_ = 0;          ///< of the backward pass
  double now_s_ = 0, wire_free_s_ = 0, waited_s_ = 0;
};

void check_staged(const std::vector<StagedBucket>& buckets) {
  for (const auto& bucket : buckets) {
    bool valid = bucket.ready_s >= 0 && bucket.complete_s >= 0 && !bucket.stages.empty() &&
                 bucket.stages.size() == buckets.front().stages.size();
    for (const auto& stage : bucket.stages) valid = valid && stage.compute_s >= 0;
    ISOBAR_CHECK(valid,
                 "predict_staged_step: every bucket needs the same number of stages, one at "
                 "least, and no time may be negative");
  }
}

}  // namespace

StepPrediction simulate_staged_step(const StepCompute& compute,
                                    const std::vector<StagedBucket>& buckets,
                                    const StepWire& wire) {
  check_compute(compute);
  check_staged(buckets);
  ISOBAR_CHECK(wire.compute_rate > 0 && wire.compute_rate <= 1,
               "simulate_staged_step: wanted a compute_rate above 0 and at most 1, got ",
               wire.compute_rate);
  StagedStep step(buckets, wire);
  step.run(compute.backward_s);
  return {.step_s = compute.forward_s + step.now_s() + compute.optimizer_s,
          .exposed_comm_s = step.waited_s(),
          .bound_s = 0,
          .end_s = step.end_s()};
}

StepPrediction predict_staged_step(const StepCompute& compute,
                                   const std::vector<StagedBucket>& buckets,
                                   const AllreduceCost& cost, int ranks) {
  auto step = simulate_staged_step(
      compute, buckets, {.seconds = [&](int64_t bytes) { return cost.seconds(bytes, ranks); }});
  auto whole = compute;
  whole.buckets.clear();
  for (const auto& bucket : buckets) {
    whole.backward_s += bucket.complete_s;
    BucketReady ready{.ready_s = bucket.ready_s, .bytes = 0};
    for (const auto& stage : bucket.stages) {
      whole.backward_s += stage.compute_s;
      ready.bytes += stage.bytes;
    }
    whole.buckets.push_back(ready);
  }
  step.bound_s = bound(whole, cost, ranks);
  return step;
}

}  // namespace isobar
