// SPDX-License-Identifier: Apache-2.0
// What the checks that a DataParallel makes in each step cost beside the step: each is timed by
// itself between steps of the same program, and compared with the median step.
//   wrapper_checks --model mlp
//   wrapper_checks --model gnn --grid O16 --hidden 3 --channels 16 --layers 2 --batch 8
#include <isobar/bench/gnn_workload.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/ddp/flat_optimizer.hpp>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

#include "bench/baselines/launch.hpp"
#include "bench/programs/step_program.hpp"
#include "ddp/gradient_buffers.hpp"
#include "ddp/module_watch.hpp"
#include "ddp/reducer_step.hpp"
#include "ddp/tensor_bits.hpp"

namespace isobar::bench {
namespace {

/// Calls of a check that are timed together: one takes a few microseconds.
constexpr int kCalls = 100;

template <typename Act>
double seconds_a_call(int calls, const Act& act) {
  const Stopwatch watch;
  for (int i = 0; i < calls; ++i) act();
  return watch.elapsed_s() / calls;
}

/// The checks of a DataParallel of `module`, on copies of its parameters where they change
/// something.
class Checks {
 public:
  explicit Checks(const torch::nn::Module& module)
      : watch_(module),
        parameters_(copies_of(module)),
        buffers_(parameters_, plan_buckets(parameters_, reverse_order(count()), {})) {
    for (const auto& parameter : parameters_) marks_.push_back(mark_value(parameter.tensor));
  }

  /// Is the module still what was wrapped?
  double watch_s() const {
    return seconds_a_call(kCalls, [&] { wrong_ += watch_.change().empty() ? 0 : 1; });
  }

  /// Is what belongs to the reducer untouched, of the shape it had, and what is frozen?
  double guard_s() {
    return seconds_a_call(kCalls, [&] {
      for (int64_t p = 0; p < count(); ++p) {
        buffers_.hide(p);
        wrong_ += buffers_.fits(p) && parameters_[p].tensor.requires_grad() ? 0 : 1;
        wrong_ += buffers_.show(p) == Interference::none ? 0 : 1;
      }
    });
  }

  /// What a step notes of its parameters when it opens, to find an update without finish().
  double marks_s() {
    return seconds_a_call(kCalls, [&] {
      for (int64_t p = 0; p < count(); ++p) {
        wrong_ += mark_value(parameters_[p].tensor) == marks_[p] ? 0 : 1;
      }
    });
  }

  /// Do the ranks have the same parameters? What travels is a collective of eight bytes.
  double digest_s() const {
    return seconds_a_call(1, [&] {
      for (const auto& parameter : parameters_) wrong_ += hash_of(parameter.tensor) == 0 ? 1 : 0;
    });
  }

  int64_t wrong() const { return wrong_; }

 private:
  static std::vector<NamedParameter> copies_of(const torch::nn::Module& module) {
    std::vector<NamedParameter> copies;
    for (const auto& item : module.named_parameters()) {
      copies.push_back({item.key(), item.value().detach().clone().requires_grad_(true)});
    }
    return copies;
  }
  int64_t count() const { return static_cast<int64_t>(parameters_.size()); }

  ModuleWatch watch_;
  std::vector<NamedParameter> parameters_;
  GradientBuffers buffers_;
  std::vector<ValueMark> marks_;
  mutable int64_t wrong_ = 0;
};

struct Seconds {
  std::vector<double> step, watch, guard, marks, digest;
};

Seconds measure_checks(const StepArguments& arguments, Checks& checks, const Workload& workload,
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
    const double watch_s = checks.watch_s(), guard_s = checks.guard_s(), marks_s = checks.marks_s(),
                 digest_s = checks.digest_s();
    if (i < 0) continue;
    seconds.step.push_back(step_s);
    seconds.watch.push_back(watch_s);
    seconds.guard.push_back(guard_s);
    seconds.marks.push_back(marks_s);
    seconds.digest.push_back(digest_s);
  }
  return seconds;
}

/// Of one round: what the checks add to a step, in parts of it.
std::vector<double> shares_of(const Seconds& seconds, int64_t every) {
  std::vector<double> shares;
  for (size_t i = 0; i < seconds.step.size(); ++i) {
    const double checks_s = seconds.watch[i] + seconds.guard[i] + seconds.marks[i] +
                            seconds.digest[i] / static_cast<double>(every);
    shares.push_back(checks_s / seconds.step[i]);
  }
  return shares;
}

int run(const StepArguments& arguments) {
  const auto workload = arguments.model == "gnn" ? make_gnn_workload(arguments, 0)()
                                                 : make_linear_stack(arguments.linear_stack(), 0);
  const int repeats = arguments.repeats == "auto" ? 60 : std::stoi(arguments.repeats);
  Checks checks(*workload.module);
  const auto seconds = measure_checks(arguments, checks, workload, repeats);
  const auto every = DataParallelOptions{}.compare_parameters_every;
  const auto share = summarize(shares_of(seconds, every));
  const nlohmann::json row = {{"model", arguments.model},
                              {"parameters", workload.module->parameters().size()},
                              {"repeats", share.count},
                              {"step_s", summarize(seconds.step).median},
                              {"module_s", summarize(seconds.watch).median},
                              {"gradients_s", summarize(seconds.guard).median},
                              {"marks_s", summarize(seconds.marks).median},
                              {"digest_s", summarize(seconds.digest).median},
                              {"digest_every", every},
                              {"share", share.median},
                              {"share_low", share.interval_low},
                              {"share_high", share.interval_high},
                              {"error", checks.wrong()}};
  if (arguments.json != "-") {
    fmt::print(
        "{}: {} parameters, a step {:.2f} ms; checks: module {:.2f} us, gradients {:.2f} us, "
        "values {:.2f} us, digest {:.1f} us every {} steps\n"
        "in all {:.4f} % [{:.4f}, {:.4f}] of a step; error {}\n",
        arguments.model, workload.module->parameters().size(), 1e3 * row["step_s"].get<double>(),
        1e6 * row["module_s"].get<double>(), 1e6 * row["gradients_s"].get<double>(),
        1e6 * row["marks_s"].get<double>(), 1e6 * row["digest_s"].get<double>(), every,
        100 * share.median, 100 * share.interval_low, 100 * share.interval_high, checks.wrong());
  }
  write_report(arguments.json, "isobar.bench.wrapper_checks.1", arguments.command,
               nlohmann::json::array({row}));
  return checks.wrong() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace isobar::bench

int main(int argc, char** argv) {
  isobar::bench::StepArguments arguments;
  arguments.command.assign(argv, argv + argc);
  return isobar::bench::run_program(
      argc, argv, "What a DataParallel's checks cost beside a step",
      [&](CLI::App& app) { isobar::add_step_options(app, arguments); },
      [&] { return isobar::bench::run(arguments); });
}
