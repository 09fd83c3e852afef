// SPDX-License-Identifier: Apache-2.0
// What the profile of `isobar train` costs beside a step: its probes are timed by themselves, many
// calls together, between steps of the same program. A probe is a lap of the timer, or what the
// census adds to a collective and its wait; how many a step has follows from its buckets.
//   profile_cost --model gnn --grid O16 --hidden 3 --channels 16 --layers 2 --batch 8
#include <isobar/bench/gnn_workload.hpp>
#include <isobar/comm/census.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/ddp/flat_optimizer.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>

#include "bench/baselines/launch.hpp"
#include "bench/programs/step_program.hpp"
#include "train/step_timer.hpp"

namespace isobar::bench {
namespace {

/// Calls of a probe that are timed together: one takes a tenth of a microsecond.
constexpr int kCalls = 1000;

/// A transport of no work at all, under which only what is above it takes time.
class IdleTransport final : public Communicator {
 public:
  IdleTransport() : Communicator(0, 2, kDefaultTimeout) {}

 private:
  struct Done final : WorkState {
    bool is_completed() const override { return true; }
    void wait() override {}
    void synchronize() override {}
  };
  Work do_start(Operation) override { return Work(done_); }
  std::unique_ptr<Communicator> do_split(int, int) override { return nullptr; }
  std::string_view do_backend() const noexcept override { return "idle"; }

  std::shared_ptr<Done> done_ = std::make_shared<Done>();
};

template <typename Act>
double seconds_a_call(const Act& act) {
  const Stopwatch watch;
  for (int i = 0; i < kCalls; ++i) act();
  return watch.elapsed_s() / kCalls;
}

class Probes {
 public:
  Probes() : timer_(transport_.census()) {}

  double lap_s() {
    start_census();
    timer_.restart();
    const Stopwatch watch;
    const double before = sum();
    const double lap_s = seconds_a_call([&] { timer_.lap(StepPart::other); });
    // Laps leave no gap: what they add up to is what they took.
    if (std::abs(sum() - before - kCalls * lap_s) > 0.5 * watch.elapsed_s()) ++wrong_;
    return lap_s;
  }

  /// What counting adds to a collective and its wait.
  double call_s() {
    transport_.census().stop();
    const double without_s = collective_s();
    start_census();
    const double with_s = collective_s();
    const auto counts = transport_.census().counts();
    if (counts.size() != 1 || counts[0].calls != kCalls || counts[0].asker != "gradients") ++wrong_;
    return with_s - without_s;
  }

  int64_t wrong() const { return wrong_; }

 private:
  /// As a trainer does.
  void start_census() {
    transport_.census().start();
    transport_.census().keep_spans();
  }
  double collective_s() {
    return seconds_a_call([&] {
      const CollectiveAsker asker("gradients");
      transport_.allreduce(values_, {.mark = {.bucket = 0}}).wait();
    });
  }
  double sum() const {
    double sum = 0;
    for (const double seconds : timer_.total()) sum += seconds;
    return sum;
  }

  IdleTransport transport_;
  at::Tensor values_ = at::zeros({16});
  StepTimer timer_;
  int64_t wrong_ = 0;
};

struct Seconds {
  std::vector<double> step, lap, call;
  int64_t buckets = 0;
};

Seconds measure(const StepArguments& arguments, Probes& probes, const Workload& workload,
                int repeats) {
  const auto comm = make_self_communicator();
  DataParallel parallel(*workload.module, *comm);
  FlatOptimizer optimizer(parallel.reducer(), {.rule = UpdateRule::sgd, .weight_decay = 0});
  Seconds seconds;
  for (int i = -arguments.warmup; i < repeats; ++i) {
    const Stopwatch watch;
    parallel.zero_grad();
    workload.loss().backward();
    parallel.finish(optimizer.on_bucket(arguments.learning_rate));
    const double step_s = watch.elapsed_s();
    const double lap_s = probes.lap_s(), call_s = probes.call_s();
    if (i < 0) continue;
    seconds.step.push_back(step_s);
    seconds.lap.push_back(lap_s);
    seconds.call.push_back(call_s);
  }
  seconds.buckets = static_cast<int64_t>(parallel.reducer().plan().size());
  return seconds;
}

int run(const StepArguments& arguments) {
  const auto workload = arguments.model == "gnn" ? make_gnn_workload(arguments, 0)()
                                                 : make_linear_stack(arguments.linear_stack(), 0);
  const int repeats = arguments.repeats == "auto" ? 60 : std::stoi(arguments.repeats);
  Probes probes;
  const auto seconds = measure(arguments, probes, workload, repeats);
  // Trainer::run(): eight laps, and two around each bucket's update. Collectives: one a bucket, and
  // at the most four more where a step clips and is logged, of the norm and of the loss.
  const int64_t laps = 8 + 2 * seconds.buckets, calls = seconds.buckets + 4;
  std::vector<double> shares;
  for (size_t i = 0; i < seconds.step.size(); ++i) {
    shares.push_back((static_cast<double>(laps) * seconds.lap[i] +
                      static_cast<double>(calls) * seconds.call[i]) /
                     seconds.step[i]);
  }
  const auto share = summarize(shares);
  const nlohmann::json row = {{"model", arguments.model},
                              {"repeats", share.count},
                              {"step_s", summarize(seconds.step).median},
                              {"lap_s", summarize(seconds.lap).median},
                              {"laps", laps},
                              {"call_s", summarize(seconds.call).median},
                              {"calls", calls},
                              {"share", share.median},
                              {"share_low", share.interval_low},
                              {"share_high", share.interval_high},
                              {"error", probes.wrong()}};
  if (arguments.json != "-") {
    fmt::print(
        "{}: a step {:.2f} ms; {} laps of {:.3f} us, {} collectives with {:.3f} us each\n"
        "in all {:.4f} % [{:.4f}, {:.4f}] of a step; error {}\n",
        arguments.model, 1e3 * row["step_s"].get<double>(), laps, 1e6 * row["lap_s"].get<double>(),
        calls, 1e6 * row["call_s"].get<double>(), 100 * share.median, 100 * share.interval_low,
        100 * share.interval_high, probes.wrong());
  }
  write_report(arguments.json, "isobar.bench.profile_cost.1", arguments.command,
               nlohmann::json::array({row}));
  return probes.wrong() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace isobar::bench

int main(int argc, char** argv) {
  isobar::bench::StepArguments arguments;
  arguments.command.assign(argv, argv + argc);
  return isobar::bench::run_program(
      argc, argv, "What the profile of a training run costs beside a step",
      [&](CLI::App& app) { isobar::add_step_options(app, arguments); },
      [&] { return isobar::bench::run(arguments); });
}
