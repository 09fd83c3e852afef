// SPDX-License-Identifier: Apache-2.0
// `isobar bench compression`, on every rank: what bench::CompressionBench finds as a table and
// rows, which rank 0 prints and writes. All ranks measure and predict alike, so that they give the
// same exit code; a barrier at the end keeps the world until rank 0 has written.
#include "bench/programs/step_program.hpp"
#include "cli/bench_step.hpp"
#include "cli/command.hpp"

#include <isobar/bench/compression_bench.hpp>
#include <isobar/bench/plain_stream.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/compress/break_even.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/core/text.hpp>
#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct BenchCompressionArguments {
  BenchStepArguments step;
  std::vector<int64_t> matrix_approximation_ranks{4};
  std::vector<std::string> methods;  ///< beside "none"; empty for all
  double margin = 0.1;
  int measured_rounds = 0;  ///< 0: predictions only
};

using nlohmann::json;

std::vector<bench::MeasuredCompression> choices_of(const BenchCompressionArguments& arguments) {
  std::vector<bench::MeasuredCompression> choices;
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

double compute_s(const CompressionCost& cost) {
  double sum = 0;
  for (const auto& bucket : cost.buckets) {
    sum += bucket.complete_s;
    for (const auto& stage : bucket.stages) sum += stage.compute_s;
  }
  return sum;
}

/// What a projection needs of a step: isobar project reads it.
json parts_of(const bench::MeasuredParts& parts, const CompressionChoice& choice) {
  const auto& cost = choice.cost;
  const auto wire = choice.wire.value_or(parts.wire);
  auto buckets = json::array();
  for (size_t b = 0; b < cost.buckets.size(); ++b) {
    auto stages = json::array();
    for (const auto& stage : cost.buckets[b].stages) {
      stages.push_back({{"compute_s", stage.compute_s}, {"bytes", stage.bytes}});
    }
    buckets.push_back({{"ready_s", parts.ready_s[b]},
                       {"complete_s", cost.buckets[b].complete_s},
                       {"stages", stages}});
  }
  return {{"forward_s", parts.compute.forward_s},     {"backward_s", parts.compute.backward_s},
          {"optimizer_s", parts.compute.optimizer_s}, {"latency_s", wire.latency_s},
          {"bytes_per_s", wire.bytes_per_s},          {"buckets", buckets}};
}

json make_row(const bench::MeasuredCompression& choice, const CompressionChoice& predicted,
              double without_s, const bench::PlainStream& stream, double memory_bytes_per_s,
              int ranks) {
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

void add_bench_compression_options(CLI::App& app, BenchCompressionArguments& arguments) {
  add_step_options(app, arguments.step.common);
  app.add_option("--backend", arguments.step.backend,
                 "auto, nccl, mpi, gloo, shm or self; auto chooses");
  app.add_option("--matrix-approximation-rank", arguments.matrix_approximation_ranks,
                 "ranks of the factors of acp_sgd and power_sgd to try, by comma")
      ->delimiter(',')
      ->check(check_positive);
  app.add_option("--methods", arguments.methods, "methods to try, by comma; without it all")
      ->delimiter(',')
      ->check(CLI::IsMember(compression_methods()));
  app.add_option("--margin", arguments.margin,
                 "part of a step that compression has to win to be advised")
      ->check(CLI::Range(0.0, 0.99));
  app.add_option("--measure", arguments.measured_rounds,
                 "also measure each step, in so many rounds")
      ->check(check_not_negative);
}

/// Predicts a step for each way to compress and prints a table and an advice; measures the
/// steps too where rounds are asked for. Returns the exit code: 0 if what was measured was
/// right.
int run_bench_compression(const BenchCompressionArguments& arguments) {
  const auto& common = arguments.step.common;
  at::set_num_threads(common.threads);
  const auto comm = make_communicator({.backend = arguments.step.backend});
  bench::CompressionBench ranks(common, arguments.step.parallel, *comm);
  const auto stream = bench::measure_plain_stream(ranks.ranks(), common.stream_s);
  auto choices = choices_of(arguments);
  const double memory = ranks.memory_bytes_per_s();
  const auto predicted = ranks.predict(choices);
  ranks.measure(choices, arguments.measured_rounds);
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
      rows.back()["parts"] = parts_of(ranks.parts(), predicted[i]);
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

const RegisteredCommand kBenchCompression{
    {.place = 52,
     .group = "bench",
     .name = "compression",
     .description = "Predict what compressing gradients would save",
     .example = "mpirun -n 4 isobar bench compression --model mlp --width 1024 --measure 3",
     .add = with_arguments(add_bench_compression_options, run_bench_compression)}};

}  // namespace
}  // namespace isobar
