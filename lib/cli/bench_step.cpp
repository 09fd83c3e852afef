// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_step.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/safetensors.hpp>
#include <ATen/Parallel.h>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/harness/run_step.hpp"
#include "cli/bench_gnn.hpp"
#include "cli/bench_subject.hpp"

namespace isobar {
namespace {

/// A module's gradients through DataParallel, as users do it.
class DataParallelSync final : public bench::StepSync {
 public:
  DataParallelSync(torch::nn::Module& module, Communicator& world,
                   const DataParallelOptions& options)
      : parallel_(module, world, options) {}

  std::string name() const override { return "ddp"; }
  void zero_grad() override { parallel_.zero_grad(); }
  void finish() override { parallel_.finish(); }

  bench::SyncTotals totals() const override {
    const auto& counters = parallel_.reducer().counters();
    return {.payload_bytes = counters.payload_bytes, .exposed_s = counters.exposed_seconds};
  }

  std::vector<bench::SyncBucket> buckets() const override {
    std::vector<bench::SyncBucket> found;
    for (const auto& bucket : parallel_.reducer().plan()) found.push_back(bucket.parameters);
    return found;
  }

 private:
  mutable DataParallel parallel_;
};

std::unique_ptr<bench::StepSync> make_sync(const bench::StepArguments& arguments,
                                           torch::nn::Module& module, Communicator& world) {
  if (arguments.sync == "none") return bench::make_no_sync(module);
  return std::make_unique<DataParallelSync>(
      module, world,
      DataParallelOptions{
          .bucket_cap_bytes = bench::parse_bucket_cap(arguments.bucket_cap),
          .first_bucket_cap_bytes = bench::parse_bucket_cap(arguments.first_bucket_cap)});
}

std::function<void()> make_optimizer(const bench::StepArguments& arguments,
                                     const torch::nn::Module& module) {
  std::vector<NamedParameter> parameters;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) parameters.push_back({item.key(), item.value()});
  }
  const OptimizerOptions options{.method = arguments.optimizer,
                                 .weight_decay = arguments.optimizer == "sgd" ? 0 : 0.01};
  const auto optimizer = std::make_shared<Optimizer>(parameters, options);
  return [optimizer, rate = arguments.learning_rate] { optimizer->step(rate); };
}

void dump_gradients(const std::string& file, const torch::nn::Module& module) {
  NamedTensors gradients;
  for (const auto& item : module.named_parameters()) {
    if (item.value().grad().defined()) gradients.emplace_back(item.key(), item.value().grad());
  }
  write_safetensors(file, gradients);
}

bench::MakeWorkload choose_workload(const BenchStepArguments& arguments, int rank) {
  if (arguments.common.model == "gnn") return make_gnn_workload(arguments, rank);
  return [options = arguments.common.linear_stack(), rank] {
    return bench::make_linear_stack(options, rank);
  };
}

nlohmann::json fields_of(const BenchStepArguments& arguments) {
  if (arguments.common.model == "gnn") return gnn_fields(arguments);
  return bench::linear_stack_fields(arguments.common.linear_stack());
}

}  // namespace

void add_bench_step_options(CLI::App& app, BenchStepArguments& arguments) {
  app.add_option("--model", arguments.common.model, "mlp: Linear layers; gnn: a WeatherGnn")
      ->check(CLI::IsMember({"mlp", "gnn"}));
  bench::add_step_options(app, arguments.common);
  app.add_option("--grid", arguments.grid, "reduced Gaussian grid of the gnn's data");
  app.add_option("--hidden", arguments.hidden, "icosphere level of its hidden mesh")
      ->check(CLI::Range(0, 10));
  for (auto [name, value] : {std::pair{"--channels", &arguments.channels},
                             {"--prognostic", &arguments.prognostic},
                             {"--forcing", &arguments.forcing}}) {
    app.add_option(name, *value, "of the gnn")->check(CLI::PositiveNumber);
  }
  app.add_option("--backend", arguments.backend, "a backend of comm.backend; auto chooses");
  app.add_option("--dump-gradients", arguments.dump_gradients,
                 "write rank 0's gradients of the first step there, as safetensors");
}

int run_bench_step(const BenchStepArguments& arguments) {
  at::set_num_threads(arguments.common.threads);
  const auto comm = make_communicator({.backend = arguments.backend});
  const auto subject = make_communicator_subject(*comm, bench::Collective::all_gather);
  bench::MakeWorkload make_workload;
  run_agreed(*comm, [&] { make_workload = choose_workload(arguments, comm->rank()); });
  const bench::StepCase step_case{
      .make_workload = make_workload,
      .make_sync = [&](auto& module) { return make_sync(arguments.common, module, *comm); },
      .make_optimizer = [&](auto& module) { return make_optimizer(arguments.common, module); }};
  auto options = bench::step_options(arguments.common);
  if (!arguments.dump_gradients.empty() && comm->rank() == 0) {
    options.on_first_gradients = [&](const auto& module) {
      dump_gradients(arguments.dump_gradients, module);
    };
  }
  return bench::run_step(*subject, step_case, arguments.common, fields_of(arguments), options);
}

}  // namespace isobar
