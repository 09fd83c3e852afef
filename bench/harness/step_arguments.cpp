// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/step_arguments.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <CLI/CLI.hpp>

#include <utility>

#include "bench/harness/arguments.hpp"
#include "bench/harness/option_check.hpp"

namespace isobar::bench {
namespace {

void add_gnn_options(CLI::App& app, StepArguments& arguments) {
  app.add_option("--grid", arguments.grid, "reduced Gaussian grid of the gnn's data");
  app.add_option("--hidden", arguments.hidden, "icosphere level of its hidden mesh")
      ->check(CLI::Range(0, 10));
  for (auto [name, value] : {std::pair{"--channels", &arguments.channels},
                             {"--prognostic", &arguments.prognostic},
                             {"--forcing", &arguments.forcing}}) {
    app.add_option(name, *value, "of the gnn")->check(check_positive);
  }
  app.add_option("--shard", arguments.shard,
                 "the ranks of a model share the gnn's graph so; with --sync none")
      ->check(CLI::IsMember({"bands", "bisection"}));
  app.add_flag("--recompute", arguments.recompute,
               "the gnn computes activations again in the backward pass");
  app.add_option("--precision", arguments.precision, "what the gnn computes in, as train.precision")
      ->check(CLI::IsMember({"float32", "bf16", "fp16"}));
  app.add_option("--chunk-edges", arguments.chunk_edges,
                 "edges that the gnn computes together; 0: what suits the device")
      ->check(CLI::NonNegativeNumber);
}

void add_model_options(CLI::App& app, StepArguments& arguments) {
  app.add_option("--model", arguments.model, "mlp: Linear layers; gnn: a WeatherGnn")
      ->check(CLI::IsMember({"mlp", "gnn"}));
  app.add_option("--layers", arguments.layers, "Linear layers of mlp, processor blocks of gnn")
      ->check(check_positive);
  app.add_option("--width", arguments.width, "inputs and outputs of each layer of mlp")
      ->check(check_positive);
  app.add_option("--batch", arguments.batch, "samples of a rank; 128 of mlp, 1 of gnn")
      ->check(check_positive);
  app.add_option("--seed", arguments.seed, "of weights and data");
  app.add_option("--optimizer", arguments.optimizer)->check(CLI::IsMember({"sgd", "adamw"}));
  app.add_option("--learning-rate", arguments.learning_rate)->check(check_not_negative);
}

void add_sync_options(CLI::App& app, StepArguments& arguments) {
  app.add_option("--sync", arguments.sync, "none: every rank for itself; ddp: the mean gradient")
      ->check(CLI::IsMember({"none", "ddp"}));
  app.add_option("--bucket-cap", arguments.bucket_cap, "a bucket is reduced from this size on")
      ->check(checked_by(parse_bucket_cap));
  app.add_option("--first-bucket-cap", arguments.first_bucket_cap, "the first one from this")
      ->check(checked_by(parse_bucket_cap));
}

}  // namespace

int64_t parse_bucket_cap(const std::string& text) {
  ISOBAR_CHECK(text != "auto", "buckets are not tuned yet: 'auto' is no size; give 25MiB");
  const auto bytes = parse_bytes(text);
  ISOBAR_CHECK(bytes && *bytes > 0, "'", text, "' is no size; write 25MiB");
  return *bytes;
}

void add_step_options(CLI::App& app, StepArguments& arguments) {
  add_model_options(app, arguments);
  add_gnn_options(app, arguments);
  add_sync_options(app, arguments);
  app.add_option("--device", arguments.device, "where network and data are")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--threads", arguments.threads, "of LibTorch's pool, on each rank")
      ->check(check_positive);
  app.add_option("--repeats", arguments.repeats,
                 "timed steps; auto: as many as take a second, 10 at least")
      ->check(checked_by(parse_repeats));
  app.add_option("--warmup", arguments.warmup, "steps before the timed ones, one at least")
      ->check(check_positive);
  app.add_flag("--memory", arguments.memory, "measure what the first steps add to the memory");
  app.add_option("--stream-seconds", arguments.stream_s,
                 "length of each plain TCP stream beside it; 0 for none")
      ->check(check_not_negative);
  app.add_option("--json", arguments.json, "write the rows there; - is standard output");
}

}  // namespace isobar::bench
