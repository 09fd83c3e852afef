// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_step.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/safetensors.hpp>
#include <ATen/Parallel.h>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/harness/gnn_workload.hpp"
#include "bench/harness/run_step.hpp"
#include "cli/bench_subject.hpp"
#include "cli/parity_case.hpp"
#include "cli/trainable.hpp"

namespace isobar {
namespace {

std::function<void()> make_update(const BenchStepArguments& arguments,
                                  const torch::nn::Module& module) {
  const auto& common = arguments.common;
  if (common.sync == "ddp" && arguments.parallel.update == "fused") return [] {};
  const auto optimizer =
      std::make_shared<Optimizer>(trainable(module), optimizer_options(common, FusedUpdate::off));
  return [optimizer, rate = common.learning_rate] { optimizer->step(rate); };
}

void dump_gradients(const std::string& file, const torch::nn::Module& module) {
  NamedTensors gradients;
  for (const auto& item : module.named_parameters()) {
    const auto& gradient = item.value().grad();
    if (gradient.defined()) gradients.emplace_back(item.key(), gradient.cpu());
  }
  write_safetensors(file, gradients);
}

void dump_graph(const BenchStepArguments& arguments, int rank) {
  if (arguments.dump_graph.empty() || rank != 0) return;
  const auto& common = arguments.common;
  ISOBAR_CHECK(common.model == "gnn", "--dump-graph: --model ", common.model, " has no graph");
  write_parity_graph(arguments.dump_graph,
                     build_graph(make_gaussian_grid(common.grid), {.hidden_level = common.hidden}));
}

bench::StepOptions step_options(const BenchStepArguments& arguments, int rank) {
  auto options = bench::step_options(arguments.common);
  if (!arguments.dump_gradients.empty() && rank == 0) {
    options.on_first_gradients = [&](const auto& module) {
      dump_gradients(arguments.dump_gradients, module);
    };
  }
  return options;
}

}  // namespace

void add_bench_step_options(CLI::App& app, BenchStepArguments& arguments) {
  bench::add_step_options(app, arguments.common);
  add_parallel_options(app, arguments.parallel);
  app.add_option("--backend", arguments.backend, "a backend of comm.backend; auto chooses");
  app.add_option("--transport-levels", arguments.transport_levels,
                 "how each allreduce goes over nodes, as comm.levels")
      ->check(CLI::IsMember({"auto", "flat", "node"}));
  app.add_option("--dump-graph", arguments.dump_graph,
                 "write the gnn's graph there, as verify-parity reads it");
  app.add_option("--dump-gradients", arguments.dump_gradients,
                 "write rank 0's gradients of the first step there, as safetensors");
}

bench::StepCase make_step_case(const BenchStepArguments& arguments,
                               bench::MakeWorkload make_workload, Communicator& comm,
                               const ProcessGrid* grid) {
  return {.make_workload = std::move(make_workload),
          .make_sync = [&arguments, &comm,
                        grid](torch::nn::Module& module) -> std::unique_ptr<bench::StepSync> {
            if (arguments.common.sync == "none") return bench::make_no_sync(module);
            return make_parallel_sync(module, comm, grid, arguments.common, arguments.parallel);
          },
          .make_optimizer =
              [&arguments](torch::nn::Module& module) { return make_update(arguments, module); }};
}

int run_bench_step(const BenchStepArguments& arguments) {
  const auto& common = arguments.common;
  at::set_num_threads(common.threads);
  const auto comm = make_communicator({.backend = arguments.backend,
                                       .device = common.device,
                                       .levels = arguments.transport_levels});
  const auto subject = make_communicator_subject(*comm, bench::Collective::all_gather);
  std::unique_ptr<ProcessGrid> grid;
  if (arguments.parallel.model_ranks > 1) {
    grid = std::make_unique<ProcessGrid>(*comm, arguments.parallel.model_ranks);
  }
  bench::MakeWorkload make_workload;
  run_agreed(*comm, [&] { dump_graph(arguments, comm->rank()); });
  run_agreed(*comm, [&] {
    ISOBAR_CHECK(common.shard.empty() || (common.model == "gnn" && common.sync == "none"),
                 "--shard: wanted --model gnn and --sync none, got ", common.model, " and ",
                 common.sync);
    make_workload = common.shard.empty()
                        ? bench::choose_workload(common, comm->rank())
                        : bench::make_sharded_gnn_workload(common, grid ? grid->model() : *comm);
  });
  const auto step_case = make_step_case(arguments, make_workload, *comm, grid.get());
  auto parallel = arguments.parallel;
  if (common.sync == "none") parallel.compress.method = "none";
  return bench::run_step(*subject, step_case, common, parallel_fields(parallel),
                         step_options(arguments, comm->rank()));
}

}  // namespace isobar
