// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_compression.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/compress/break_even.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

#include "bench/harness/measure.hpp"
#include "bench/harness/option_check.hpp"
#include "bench/harness/plain_stream.hpp"
#include "bench/harness/run_step.hpp"
#include "cli/bench_subject.hpp"
#include "cli/report.hpp"
#include "cli/trainable.hpp"

namespace isobar {
namespace {

using nlohmann::json;

constexpr int kPasses = 6;
/// Values of each array of the memory's measurement, more than caches hold.
constexpr int64_t kMemoryValues = 8 << 20;

/// What is predicted, and measured in the end.
struct Choice {
  CompressionOptions options;
  std::vector<double> measured_s;  ///< by round
  double error = 0;
};

std::vector<Choice> choices_of(const BenchCompressionArguments& arguments) {
  std::vector<Choice> choices;
  const auto& wanted = arguments.methods;
  for (const auto& method : compression_methods()) {
    const bool is_wanted = std::find(wanted.begin(), wanted.end(), method) != wanted.end();
    if (!wanted.empty() && !is_wanted && method != "none") continue;
    const bool has_rank = method == "acp_sgd" || method == "power_sgd";
    for (const int64_t rank : arguments.matrix_approximation_ranks) {
      CompressionOptions options{.method = method};
      options.low_rank = {.matrix_approximation_rank = rank, .start_step = 0};
      choices.push_back({options, {}, 0});
      if (!has_rank) break;
    }
  }
  return choices;
}

/// The step without communication, its buckets, and the wire, as all ranks see them.
class Bench {
 public:
  Bench(const BenchCompressionArguments& arguments, Communicator& comm)
      : arguments_(arguments),
        comm_(comm),
        ranks_(make_communicator_subject(comm, bench::Collective::all_gather)) {
    run_agreed(
        comm, [&] { make_workload_ = bench::choose_workload(arguments.step.common, comm.rank()); });
  }

  bench::Subject& ranks() { return *ranks_; }

  std::vector<CompressionChoice> predict(const std::vector<Choice>& choices) {
    const auto work = make_workload_();
    const auto parameters = trainable(*work.module);
    const auto profile = bench::profile_compute(*ranks_, work, kPasses, bench::Gradients::new_ones);
    const StepCompute compute{.forward_s = profile.forward_s,
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
      progress.update(static_cast<int64_t>(predicted.size()));
    }
    predict_choices(predicted, compute, ready_times(plan, profile), measure_allreduce(comm_),
                    comm_.size());
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
    const auto slowest =
        bench::largest_over_ranks(*ranks_, {summarize(std::move(seconds)).median})[0];
    return 3.0 * static_cast<double>(a.nbytes()) / slowest;
  }

  /// `rounds` of all choices, in turn.
  void measure(std::vector<Choice>& choices, int rounds) {
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

 private:
  Progress counting(const char* label, size_t total) const {
    return Progress({.rank = comm_.rank(),
                     .label = label,
                     .total = static_cast<int64_t>(total),
                     .unit = "method"});
  }

  void measure(Choice& choice) {
    auto step = arguments_.step;
    step.common.sync = "ddp";
    step.parallel.compress = choice.options;
    const auto step_case = make_step_case(step, make_workload_, comm_, nullptr);
    const auto result =
        bench::measure_step(*ranks_, step_case, bench::step_options(arguments_.step.common));
    choice.measured_s.push_back(result.step.median);
    choice.error = std::max(choice.error, result.error);
  }

  /// In the order in which the profile's gradients came, as a reducer plans them.
  BucketPlan plan_of(const std::vector<NamedParameter>& parameters,
                     const bench::ComputeProfile& profile) const {
    auto order = reverse_order(static_cast<int64_t>(parameters.size()));
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return profile.ready_s[a] < profile.ready_s[b]; });
    const auto& common = arguments_.step.common;
    return plan_buckets(parameters, order,
                        {.cap_bytes = bench::parse_bucket_cap(common.bucket_cap),
                         .first_cap_bytes = bench::parse_bucket_cap(common.first_bucket_cap)});
  }

  static std::vector<double> ready_times(const BucketPlan& plan,
                                         const bench::ComputeProfile& profile) {
    std::vector<double> ready;
    for (const auto& bucket : plan) {
      double last = 0;
      for (const int64_t p : bucket.parameters) last = std::max(last, profile.ready_s[p]);
      ready.push_back(last);
    }
    return ready;
  }

  double optimizer_s(const bench::Workload& work) {
    const auto update = make_step_case(arguments_.step, make_workload_, comm_, nullptr)
                            .make_optimizer(*work.module);
    std::vector<double> seconds;
    for (int i = 0; i < kPasses; ++i) {
      ranks_->barrier();
      const Stopwatch watch;
      update();
      seconds.push_back(watch.elapsed_s());
    }
    return bench::largest_over_ranks(*ranks_, {summarize(std::move(seconds)).median})[0];
  }

  const BenchCompressionArguments& arguments_;
  Communicator& comm_;
  std::unique_ptr<bench::Subject> ranks_;
  bench::MakeWorkload make_workload_;
};

double compute_s(const CompressionCost& cost) {
  double sum = 0;
  for (const auto& bucket : cost.buckets) {
    sum += bucket.complete_s;
    for (const auto& stage : bucket.stages) sum += stage.compute_s;
  }
  return sum;
}

json make_row(const Choice& choice, const CompressionChoice& predicted, double without_s,
              const bench::PlainStream& stream, double memory_bytes_per_s, int ranks) {
  json row{{"method", choice.options.method},
           {"name", predicted.name},
           {"ranks", ranks},
           {"nodes", stream.nodes},
           {"goodput_gbit_s", stream.gbit_s > 0 ? json(stream.gbit_s) : json()},
           {"memory_gbyte_s", memory_bytes_per_s / 1e9},
           {"payload_bytes", predicted.cost.traffic.payload_bytes},
           {"sent_bytes", predicted.cost.traffic.sent_bytes},
           {"compute_s", compute_s(predicted.cost)},
           {"predicted_exposed_comm_s", predicted.step.exposed_comm_s},
           {"predicted_step_s", predicted.step.step_s},
           {"predicted_ratio", predicted.step.step_s / without_s},
           {"measured_step_s", nullptr},
           {"predicted_over_measured", nullptr},
           {"error", choice.error}};
  if (!choice.measured_s.empty()) {
    const auto measured = summarize(choice.measured_s);
    row["measured_step_s"] = measured.median;
    row["measured_low_s"] = measured.interval_low;
    row["measured_high_s"] = measured.interval_high;
    row["predicted_over_measured"] = predicted.step.step_s / measured.median;
  }
  return row;
}

std::string number(const json& value, const char* format, double scale = 1) {
  return value.is_number() ? fmt::format(fmt::runtime(format), scale * value.get<double>()) : "-";
}

void print_table(const json& rows) {
  std::string text =
      fmt::format("{:<17} {:>9} {:>8} {:>8} {:>9} {:>7} {:>8} {:>6}\n", "", "payload", "compute",
                  "exposed", "predicted", "of none", "measured", "p / m");
  for (const auto& row : rows) {
    text += fmt::format(
        "{:<17} {:>9} {:>8} {:>8} {:>9} {:>7} {:>8} {:>6}\n", row["name"].get<std::string>(),
        format_bytes(row["payload_bytes"].get<int64_t>()), number(row["compute_s"], "{:.2f}", 1e3),
        number(row["predicted_exposed_comm_s"], "{:.2f}", 1e3),
        number(row["predicted_step_s"], "{:.2f}", 1e3), number(row["predicted_ratio"], "{:.3f}"),
        number(row["measured_step_s"], "{:.2f}", 1e3),
        number(row["predicted_over_measured"], "{:.3f}"));
  }
  text += "times in ms of a step; p / m: predicted over measured (--measure)\n";
  std::fputs(text.c_str(), stdout);
}

}  // namespace

void add_bench_compression_options(CLI::App& app, BenchCompressionArguments& arguments) {
  bench::add_step_options(app, arguments.step.common);
  app.add_option("--backend", arguments.step.backend, "a backend of comm.backend; auto chooses");
  app.add_option("--matrix-approximation-rank", arguments.matrix_approximation_ranks,
                 "widths of the factors of acp_sgd and power_sgd, by comma")
      ->delimiter(',')
      ->check(bench::check_positive);
  app.add_option("--methods", arguments.methods, "only these beside none, by comma")
      ->delimiter(',')
      ->check(CLI::IsMember(compression_methods()));
  app.add_option("--margin", arguments.margin, "by what part of a step compression has to win")
      ->check(CLI::Range(0.0, 0.99));
  app.add_option("--measure", arguments.measured_rounds,
                 "rounds in which each step is measured as well, in turn")
      ->check(bench::check_not_negative);
}

int run_bench_compression(const BenchCompressionArguments& arguments) {
  const auto& common = arguments.step.common;
  at::set_num_threads(common.threads);
  const auto comm = make_communicator({.backend = arguments.step.backend});
  Bench bench(arguments, *comm);
  const auto stream = bench::measure_plain_stream(bench.ranks(), common.stream_s);
  auto choices = choices_of(arguments);
  const double memory = bench.memory_bytes_per_s();
  const auto predicted = bench.predict(choices);
  bench.measure(choices, arguments.measured_rounds);
  const auto advice = advise_compression(predicted, arguments.margin);
  double error = 0;
  for (const auto& choice : choices) error = std::max(error, choice.error);
  if (comm->rank() == 0) {
    auto rows = json::array();
    for (size_t i = 0; i < choices.size(); ++i) {
      rows.push_back(make_row(choices[i], predicted[i], predicted[0].step.step_s, stream, memory,
                              comm->size()));
      rows.back()["advised"] = i == advice.choice;
      rows.back()["advice"] = advice.reason;
    }
    if (common.json != "-") {
      print_table(rows);
      std::printf("%s\n", advice.reason.c_str());
    }
    write_report(common.json, "isobar.bench.compression.1", common.command, rows);
  }
  comm->barrier().wait();
  return error == 0 ? 0 : 1;
}

}  // namespace isobar
