// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_step.hpp"

#include "bench/programs/step_program.hpp"
#include "cli/command.hpp"

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/bench/gnn_workload.hpp>
#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/train/safetensors.hpp>
#include <isobar/weather/parity_case.hpp>
#include <ATen/Parallel.h>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace isobar {
namespace {

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

void add_parallel_options(CLI::App& app, bench::ParallelArguments& arguments) {
  app.add_option("--model-ranks", arguments.model_ranks, "ranks that share a model, as model.ranks")
      ->check(check_positive);
  app.add_option("--levels", arguments.levels,
                 "with --model-ranks: over all ranks at once, or inside each model first")
      ->check(CLI::IsMember({"flat", "two"}));
  app.add_option("--launch", arguments.launch, "when a bucket of gradients is sent, as ddp.launch")
      ->check(CLI::IsMember({"at_finish", "counted", "first_gradient"}));
  app.add_option("--last-bucket-cap", arguments.last_bucket_cap,
                 "the most that the last bucket holds; none: as the others")
      ->check(checked_by(bench::parse_last_cap));
  app.add_option("--update", arguments.update,
                 "fused: weights are updated as each bucket arrives, counted as backward")
      ->check(CLI::IsMember({"separate", "fused"}));
  app.add_option("--buffers", arguments.buffers,
                 "what each step does with the module's buffers, as ddp.buffers")
      ->check(CLI::IsMember({"broadcast", "compare", "none"}));
  app.add_option("--compress", arguments.compress.method,
                 "how gradients are compressed, as compress.method")
      ->check(CLI::IsMember(compression_methods()));
  app.add_option("--matrix-approximation-rank",
                 arguments.compress.low_rank.matrix_approximation_rank,
                 "rank of the factors of acp_sgd and power_sgd")
      ->check(check_positive);
}

}  // namespace

void add_bench_step_options(CLI::App& app, BenchStepArguments& arguments) {
  add_step_options(app, arguments.common);
  add_parallel_options(app, arguments.parallel);
  app.add_option("--backend", arguments.backend,
                 "auto, nccl, mpi, gloo, shm or self; auto chooses");
  app.add_option("--transport-levels", arguments.transport_levels,
                 "an allreduce goes over all ranks at once, inside nodes first, or as measured")
      ->check(CLI::IsMember({"auto", "flat", "node"}));
  app.add_option("--dump-graph", arguments.dump_graph,
                 "write the graph of gnn to this file, as verify-parity reads it");
  app.add_option("--dump-gradients", arguments.dump_gradients,
                 "write rank 0's gradients of the first step to this safetensors file");
}

int run_bench_step(const BenchStepArguments& arguments) {
  const auto& common = arguments.common;
  at::set_num_threads(common.threads);
  const auto comm = make_communicator({.backend = arguments.backend,
                                       .device = common.device,
                                       .levels = arguments.transport_levels});
  const auto subject = bench::make_communicator_subject(*comm, bench::Collective::all_gather);
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
  const auto step_case =
      bench::make_step_case(common, arguments.parallel, make_workload, *comm, grid.get());
  auto parallel = arguments.parallel;
  if (common.sync == "none") parallel.compress.method = "none";
  return run_step(*subject, step_case, common, bench::parallel_fields(parallel),
                  step_options(arguments, comm->rank()));
}

namespace {

const RegisteredCommand kBenchStep{
    {.place = 51,
     .group = "bench",
     .name = "step",
     .description = "Time a training step, and check its gradients",
     .example = "mpirun -n 4 isobar bench step --model mlp --sync ddp --bucket-cap 25MiB",
     .add = with_arguments(add_bench_step_options, run_bench_step)}};

}  // namespace

}  // namespace isobar
