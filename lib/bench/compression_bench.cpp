// SPDX-License-Identifier: Apache-2.0
// `isobar bench compression`, on every rank: measures passes, wire and compressors apart, predicts
// from them what a step takes with each way to compress, and checks that by whole steps. Ranks wait
// for each other before what is timed, so that the slowest one's time is that of its own work.
#include <isobar/bench/compression_bench.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/bench/measure.hpp>
#include <isobar/comm/agreement.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/ddp/trainable.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <utility>

namespace isobar::bench {
namespace {

constexpr int kPasses = 6;
/// Values of each array of the memory's measurement, more than caches hold.
constexpr int64_t kMemoryValues = 8 << 20;

}  // namespace

/// The step without communication, its buckets, and the wire, as all ranks see them.
struct CompressionBench::Impl {
  Impl(const StepArguments& common, const ParallelArguments& parallel, Communicator& comm)
      : common_(common),
        parallel_(parallel),
        comm_(comm),
        ranks_(make_communicator_subject(comm, Collective::all_gather)) {
    run_agreed(comm, [&] { make_workload_ = choose_workload(common, comm.rank()); });
  }

  std::vector<CompressionChoice> predict(const std::vector<MeasuredCompression>& choices) {
    const auto work = make_workload_();
    const auto parameters = trainable(*work.module);
    const auto profile = profile_compute(*ranks_, work, kPasses, Gradients::new_ones);
    parts_.compute = {.forward_s = profile.forward_s,
                      .backward_s = profile.backward_s,
                      .optimizer_s = optimizer_s(work),
                      .buckets = {}};
    const auto plan = plan_of(parameters, profile);
    std::vector<CompressionChoice> predicted;
    Progress progress = counting("profiled", choices.size());
    for (const auto& choice : choices) {
      ranks_->barrier();
      const auto compressor = make_compressor(choice.options);
      auto cost = measure_compression(parameters, plan, compressor.get(), comm_.size(), kPasses);
      predicted.push_back({name_of(choice.options), slowest(std::move(cost), comm_)});
      if (const auto type = type_summed(choice.options); type != at::kFloat) {
        predicted.back().wire = measure_allreduce(comm_, type);
      }
      progress.update(static_cast<int64_t>(predicted.size()));
    }
    parts_.ready_s = ready_times(plan, profile);
    parts_.wire = measure_allreduce(comm_);
    predict_choices(predicted, parts_.compute, parts_.ready_s, parts_.wire, comm_.size());
    return predicted;
  }

  /// What a rank moves in a second by McCalpin's STREAM triad, while all of them do.
  double memory_bytes_per_s() {
    auto a = at::zeros({kMemoryValues});
    const auto b = at::ones_like(a), c = at::ones_like(a);
    std::vector<double> seconds;
    for (int i = 0; i < 2 * kPasses; ++i) {
      ranks_->barrier();
      const Stopwatch watch;
      at::add_out(a, b, c, 3);
      seconds.push_back(watch.elapsed_s());
    }
    const auto slowest = largest_over_ranks(*ranks_, {summarize(std::move(seconds)).median})[0];
    return 3.0 * static_cast<double>(a.nbytes()) / slowest;
  }

  /// `rounds` of all choices, in turn.
  void measure(std::vector<MeasuredCompression>& choices, int rounds) {
    if (rounds == 0) return;
    Progress progress = counting("measured", choices.size() * static_cast<size_t>(rounds));
    int64_t done = 0;
    for (int round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < choices.size(); ++i) {
        measure(choices[(i + static_cast<size_t>(round)) % choices.size()]);
        progress.update(++done);
      }
    }
  }

  Progress counting(const char* label, size_t total) const {
    return Progress({.rank = comm_.rank(),
                     .label = label,
                     .total = static_cast<int64_t>(total),
                     .unit = "method"});
  }

  void measure(MeasuredCompression& choice) {
    auto common = common_;
    auto parallel = parallel_;
    common.sync = "ddp";
    parallel.compress = choice.options;
    const auto step_case = make_step_case(common, parallel, make_workload_, comm_, nullptr);
    const auto result = measure_step(*ranks_, step_case, step_options(common_));
    choice.measured_s.push_back(result.step.median);
    choice.error = std::max(choice.error, result.error);
  }

  /// In the order in which the profile's gradients came, as a reducer plans them.
  BucketPlan plan_of(const std::vector<NamedParameter>& parameters,
                     const ComputeProfile& profile) const {
    auto order = reverse_order(static_cast<int64_t>(parameters.size()));
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return profile.ready_s[a] < profile.ready_s[b]; });
    return plan_buckets(parameters, order,
                        {.cap_bytes = parse_bucket_cap(common_.bucket_cap),
                         .first_cap_bytes = parse_bucket_cap(common_.first_bucket_cap)});
  }

  static std::vector<double> ready_times(const BucketPlan& plan, const ComputeProfile& profile) {
    std::vector<double> ready;
    for (const auto& bucket : plan) {
      double last = 0;
      for (const int64_t p : bucket.parameters) last = std::max(last, profile.ready_s[p]);
      ready.push_back(last);
    }
    return ready;
  }

  double optimizer_s(const Workload& work) {
    const auto update = make_step_case(common_, parallel_, make_workload_, comm_, nullptr)
                            .make_optimizer(*work.module);
    std::vector<double> seconds;
    for (int i = 0; i < kPasses; ++i) {
      ranks_->barrier();
      const Stopwatch watch;
      update();
      seconds.push_back(watch.elapsed_s());
    }
    return largest_over_ranks(*ranks_, {summarize(std::move(seconds)).median})[0];
  }

  const StepArguments& common_;
  const ParallelArguments& parallel_;
  Communicator& comm_;
  std::unique_ptr<Subject> ranks_;
  MakeWorkload make_workload_;
  MeasuredParts parts_;
};

CompressionBench::CompressionBench(const StepArguments& common, const ParallelArguments& parallel,
                                   Communicator& comm)
    : impl_(std::make_unique<Impl>(common, parallel, comm)) {}

CompressionBench::~CompressionBench() = default;

Subject& CompressionBench::ranks() { return *impl_->ranks_; }

std::vector<CompressionChoice> CompressionBench::predict(
    const std::vector<MeasuredCompression>& choices) {
  return impl_->predict(choices);
}

const MeasuredParts& CompressionBench::parts() const { return impl_->parts_; }

double CompressionBench::memory_bytes_per_s() { return impl_->memory_bytes_per_s(); }

void CompressionBench::measure(std::vector<MeasuredCompression>& choices, int rounds) {
  impl_->measure(choices, rounds);
}

}  // namespace isobar::bench
