// SPDX-License-Identifier: Apache-2.0
#include "bench/programs/step_program.hpp"

#include <isobar/bench/collective_arguments.hpp>
#include <isobar/bench/step_rows.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <utility>

namespace isobar {
namespace {

void add_gnn_options(CLI::App& app, bench::StepArguments& arguments) {
  app.add_option("--grid", arguments.grid, "gnn: the reduced Gaussian grid of its data");
  app.add_option("--hidden", arguments.hidden, "gnn: icosphere level of its hidden mesh")
      ->check(CLI::Range(0, 10));
  app.add_option("--channels", arguments.channels, "gnn: width of its latent states")
      ->check(check_positive);
  app.add_option("--prognostic", arguments.prognostic, "gnn: variables that it sees and forecasts")
      ->check(check_positive);
  app.add_option("--forcing", arguments.forcing, "gnn: variables that it only sees")
      ->check(check_positive);
  app.add_option("--shard", arguments.shard,
                 "gnn: how the ranks of a model share its graph; with --sync none")
      ->check(CLI::IsMember({"bands", "bisection"}));
  app.add_flag("--recompute", arguments.recompute,
               "gnn: compute activations again in the backward pass");
  app.add_option("--precision", arguments.precision, "gnn: what it computes in, as train.precision")
      ->check(CLI::IsMember({"float32", "bf16", "fp16"}));
  app.add_option("--chunk-edges", arguments.chunk_edges,
                 "gnn: edges computed together; 0: what suits the device")
      ->check(CLI::NonNegativeNumber);
}

void add_model_options(CLI::App& app, bench::StepArguments& arguments) {
  app.add_option("--model", arguments.model,
                 "mlp: a stack of Linear layers; gnn: the graph network")
      ->check(CLI::IsMember({"mlp", "gnn"}));
  app.add_option("--layers", arguments.layers, "mlp: Linear layers; gnn: rounds of message passing")
      ->check(check_positive);
  app.add_option("--width", arguments.width, "mlp: inputs and outputs of each layer")
      ->check(check_positive);
  app.add_option("--emulate-ms", arguments.emulate_ms,
                 "mlp: a layer's forward pass also takes so long without a core, as on an "
                 "accelerator, its backward pass twice")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--batch", arguments.batch, "samples of a rank; without it 128 (mlp) or 1 (gnn)")
      ->check(check_positive);
  app.add_option("--seed", arguments.seed, "of the random weights and data");
  app.add_option("--optimizer", arguments.optimizer, "what updates the weights")
      ->check(CLI::IsMember({"sgd", "adamw"}));
  app.add_option("--learning-rate", arguments.learning_rate, "of the optimizer")
      ->check(check_not_negative);
}

void add_sync_options(CLI::App& app, bench::StepArguments& arguments) {
  app.add_option("--sync", arguments.sync,
                 "ddp: gradients are averaged over ranks; none: every rank for itself")
      ->check(CLI::IsMember({"none", "ddp"}));
  app.add_option("--bucket-cap", arguments.bucket_cap,
                 "size from which on a bucket of gradients is sent")
      ->check(checked_by(bench::parse_bucket_cap));
  app.add_option("--first-bucket-cap", arguments.first_bucket_cap, "the same of the first bucket")
      ->check(checked_by(bench::parse_bucket_cap));
}

}  // namespace

void add_step_options(CLI::App& app, bench::StepArguments& arguments) {
  add_model_options(app, arguments);
  add_gnn_options(app, arguments);
  add_sync_options(app, arguments);
  app.add_option("--device", arguments.device, "where network and data lie")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--threads", arguments.threads,
                 "threads that LibTorch computes with, on each rank")
      ->check(check_positive);
  app.add_option("--repeats", arguments.repeats,
                 "timed steps; auto: as many as take a second, 10 at least")
      ->check(checked_by(bench::parse_repeats));
  app.add_option("--warmup", arguments.warmup, "steps before the timed ones, one at least")
      ->check(check_positive);
  app.add_flag("--memory", arguments.memory, "also measure the memory that training adds");
  app.add_option("--stream-seconds", arguments.stream_s,
                 "seconds of each plain TCP stream to compare with; 0 for none")
      ->check(check_not_negative);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

int run_step(bench::Subject& ranks, const bench::StepCase& step_case,
             const bench::StepArguments& arguments, const nlohmann::json& more_fields,
             const bench::StepOptions& options) {
  const auto stream = bench::measure_plain_stream(ranks, arguments.stream_s);
  auto row = bench::step_row(ranks, step_case, arguments, stream, options);
  row.update(more_fields);
  if (ranks.rank() == 0) {
    if (ranks.size() == 1 && arguments.sync != "none") std::fputs(bench::kAlone, stderr);
    if (!stream.problem.empty()) std::fprintf(stderr, "%s\n", stream.problem.c_str());
    if (arguments.json != "-") std::fputs(bench::step_table(row).c_str(), stdout);
    write_report(arguments.json, "isobar.bench.step.1", arguments.command,
                 nlohmann::json::array({row}));
  }
  // What one rank serves to the others (a store, MPI's connections) goes with its program.
  ranks.barrier();
  return row["error"] == 0 ? 0 : 1;
}

}  // namespace isobar
