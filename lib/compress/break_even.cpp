// SPDX-License-Identifier: Apache-2.0
// Called on one thread of every rank before training, by `isobar bench` and by `isobar plan`: what
// compression would cost, and whether it pays.
//
// Costs are measured without a wire: DryRun takes a bucket the way that a Reducer takes it, over
// gradients of noise, in a group that answers at once; it changes where the reducer's way changes.
// A choice that ranks make together needs the same numbers on all of them: slowest() and
// measure_allreduce() take the largest of each time over the group.
#include <isobar/compress/break_even.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "compress/allreduce_times.hpp"
#include "compress/silent_group.hpp"

namespace isobar {
namespace {

constexpr int kAllreduces = 9;

/// Value by value, of all ranks.
std::vector<double> largest_of(std::vector<double> values, Communicator& group) {
  auto tensor = at::tensor(values, at::kDouble);
  group.allreduce(tensor, ReduceOp::maximum).synchronize();
  const double* data = tensor.const_data_ptr<double>();
  return {data, data + tensor.numel()};
}

/// Parameters of the same names and shapes that belong to nobody.
std::vector<NamedParameter> unowned_copies(const std::vector<NamedParameter>& parameters) {
  std::vector<NamedParameter> result;
  for (const auto& parameter : parameters) {
    auto tensor = at::empty_like(parameter.tensor.detach());
    result.push_back({parameter.name, tensor.set_requires_grad(true), parameter.reduction});
  }
  return result;
}

/// The way of a bucket through a reducer, with no wire.
class DryRun {
 public:
  DryRun(const std::vector<NamedParameter>& parameters, const BucketPlan& plan,
         Compressor* compressor, int ranks)
      : compressor_(compressor),
        group_(ranks),
        parameters_(unowned_copies(parameters)),
        pieces_(make_pieces(parameters_, plan, ranks)) {
    for (const auto& piece : pieces_) gradients_.push_back(at::randn_like(piece.values));
    if (compressor_) compressor_->set_plan(parameters_, pieces_, nullptr);
    if (compressor_) stages_ = compressor_->stages();
  }

  int stages() const { return stages_; }
  size_t buckets() const { return pieces_.size(); }

  /// Seconds of a bucket's stage; the bytes that it sends come on top of `traffic`.
  double stage(size_t bucket, int stage, Traffic& traffic) {
    std::vector<at::Tensor> sources;
    const bool in_place = compressor_ && compressor_->reads_in_place();
    if (in_place && stage == 0) sources = sources_of(bucket);
    auto& piece = pieces_[bucket];
    BucketChannel channel(group_, {.bucket = static_cast<int32_t>(bucket)}, traffic,
                          std::move(sources));
    const double spent_s = group_.spent_s();
    const Stopwatch watch;
    if (!compressor_) {
      // What zero_grad() and the accumulation into its zeros take.
      piece.values.zero_();
      piece.values.add_(gradients_[bucket]);
    } else if (!in_place && stage == 0) {
      piece.values.copy_(gradients_[bucket]);
    }
    if (compressor_) {
      compressor_->start(static_cast<int64_t>(bucket), stage, channel).wait();
    } else {
      channel.allreduce(piece.values, gradient_bytes(piece), piece.divisor_inside()).wait();
    }
    return watch.elapsed_s() - (group_.spent_s() - spent_s);
  }

  double complete(size_t bucket) {
    const Stopwatch watch;
    if (compressor_) {
      compressor_->complete(static_cast<int64_t>(bucket));
    } else {
      pieces_[bucket].divide_outside();
    }
    return watch.elapsed_s();
  }

 private:
  static int64_t gradient_bytes(const BucketPiece& piece) {
    int64_t elements = 0;
    for (const auto& slot : piece.slots) elements += slot.elements;
    return elements * static_cast<int64_t>(piece.values.element_size());
  }

  std::vector<at::Tensor> sources_of(size_t bucket) const {
    std::vector<at::Tensor> sources;
    for (const auto& slot : pieces_[bucket].slots) {
      sources.push_back(gradients_[bucket].narrow(0, slot.offset, slot.elements));
    }
    return sources;
  }

  Compressor* compressor_;
  SilentGroup group_;
  std::vector<NamedParameter> parameters_;
  std::vector<BucketPiece> pieces_;
  std::vector<at::Tensor> gradients_;
  int stages_ = 1;
};

/// Every step's times of a bucket.
struct BucketTimes {
  std::vector<std::vector<double>> stages;
  std::vector<double> complete;
  std::vector<int64_t> sent;  ///< by stage, over all steps
};

StagedBucket summarized(BucketTimes times, int steps, double sent_fraction) {
  StagedBucket bucket;
  for (size_t s = 0; s < times.stages.size(); ++s) {
    const double sent = static_cast<double>(times.sent[s]) / steps;
    const double bytes = sent_fraction > 0 ? sent / sent_fraction : 0;
    bucket.stages.push_back({.compute_s = summarize(std::move(times.stages[s])).median,
                             .bytes = static_cast<int64_t>(bytes)});
  }
  bucket.complete_s = summarize(std::move(times.complete)).median;
  return bucket;
}

}  // namespace

CompressionCost measure_compression(const std::vector<NamedParameter>& parameters,
                                    const BucketPlan& plan, Compressor* compressor, int ranks,
                                    int steps) {
  ISOBAR_CHECK(steps > 0 && steps % 2 == 0, "measure_compression: steps must be even, got ", steps);
  c10::NoGradGuard no_grad;
  DryRun run(parameters, plan, compressor, ranks);
  std::vector<BucketTimes> times(run.buckets());
  for (auto& bucket : times) {
    bucket.stages.resize(run.stages());
    bucket.sent.resize(run.stages());
  }
  Traffic traffic;
  // Two steps to warm up, of either kind.
  for (int step = -2; step < steps; ++step) {
    if (compressor) {
      ISOBAR_CHECK(compressor->begin_step(), "measure_compression: ", compressor->description(),
                   " does not compress from the first step on; wanted start_step 0");
    }
    if (step == 0) traffic = {};
    for (int stage = 0; stage < run.stages(); ++stage) {
      for (size_t b = 0; b < run.buckets(); ++b) {
        const int64_t before = traffic.sent_bytes;
        const double seconds = run.stage(b, stage, traffic);
        if (step < 0) continue;
        times[b].stages[stage].push_back(seconds);
        times[b].sent[stage] += traffic.sent_bytes - before;
      }
    }
    for (size_t b = 0; b < run.buckets(); ++b) {
      const double seconds = run.complete(b);
      if (step >= 0) times[b].complete.push_back(seconds);
    }
  }
  CompressionCost cost;
  cost.traffic = {traffic.payload_bytes / steps, traffic.sent_bytes / steps};
  for (auto& bucket : times) {
    cost.buckets.push_back(summarized(std::move(bucket), steps, allreduce_sent_fraction(ranks)));
  }
  return cost;
}

CompressionCost slowest(CompressionCost cost, Communicator& group) {
  std::vector<double*> times;
  for (auto& bucket : cost.buckets) {
    for (auto& stage : bucket.stages) times.push_back(&stage.compute_s);
    times.push_back(&bucket.complete_s);
  }
  std::vector<double> values;
  for (const double* time : times) values.push_back(*time);
  const auto largest = largest_of(std::move(values), group);
  for (size_t i = 0; i < times.size(); ++i) *times[i] = largest[i];
  return cost;
}

AllreduceCost measure_allreduce(Communicator& group, at::ScalarType type) {
  if (group.size() == 1) return {};
  const auto time_one = [&group, type](int64_t bytes) {
    const auto values = bytes / static_cast<int64_t>(c10::elementSize(type));
    const auto buffer = at::ones({values}, type);
    std::vector<double> seconds;
    for (int i = -1; i < kAllreduces; ++i) {
      group.barrier().synchronize();
      const Stopwatch watch;
      group.allreduce(buffer).synchronize();
      if (i >= 0) seconds.push_back(watch.elapsed_s());
      buffer.fill_(1);
    }
    return summarize(largest_of(std::move(seconds), group)).median;
  };
  return cost_of_allreduces(time_one, group.size());
}

std::vector<double> evenly_ready(const BucketPlan& plan, double backward_s) {
  double all = 0, passed = 0;
  for (const auto& bucket : plan) all += static_cast<double>(bucket.bytes);
  std::vector<double> ready;
  for (const auto& bucket : plan) {
    passed += static_cast<double>(bucket.bytes);
    ready.push_back(backward_s * passed / all);
  }
  return ready;
}

void predict_choices(std::vector<CompressionChoice>& choices, const StepCompute& compute,
                     const std::vector<double>& ready_s, const AllreduceCost& wire, int ranks) {
  for (auto& choice : choices) {
    auto buckets = choice.cost.buckets;
    ISOBAR_CHECK(buckets.size() == ready_s.size(), "predict_choices: '", choice.name, "' has ",
                 buckets.size(), " buckets, ", ready_s.size(), " have a time");
    for (size_t b = 0; b < buckets.size(); ++b) buckets[b].ready_s = ready_s[b];
    choice.step = predict_staged_step(compute, buckets, choice.wire.value_or(wire), ranks);
  }
}

CompressionAdvice advise_compression(const std::vector<CompressionChoice>& choices, double margin) {
  ISOBAR_CHECK(!choices.empty() && margin >= 0 && margin < 1,
               "advise_compression: wanted a choice at least and a margin in [0, 1), got ",
               choices.size(), " and ", margin);
  const auto fastest =
      std::min_element(choices.begin(), choices.end(),
                       [](const auto& a, const auto& b) { return a.step.step_s < b.step.step_s; });
  const double ratio = fastest->step.step_s / choices.front().step.step_s;
  const auto percent = [](double part) { return std::lround(100 * part); };
  const auto milliseconds = [](double seconds) { return 1e-1 * std::round(1e4 * seconds); };
  if (fastest == choices.begin()) {
    return {0, detail::join("compression stays off: no way to compress is predicted to be faster "
                            "than a step of ",
                            milliseconds(ratio * choices.front().step.step_s), " ms without")};
  }
  const bool wins = ratio <= 1 - margin;
  const auto text =
      detail::join(wins ? "" : "compression stays off: ", fastest->name, " is predicted to take ",
                   milliseconds(fastest->step.step_s), " ms a step, ", percent(ratio), " % of ",
                   milliseconds(choices.front().step.step_s), " ms without compression",
                   wins ? "" : detail::join("; it has to win ", percent(margin), " %"));
  return {wins ? static_cast<size_t>(fastest - choices.begin()) : 0, text};
}

}  // namespace isobar
