// SPDX-License-Identifier: Apache-2.0
// PyTorch's reducer over Gloo from C++, with isobar's measurement around it: what Python costs
// DistributedDataParallel is left out.
//   mpirun -n 4 -x MASTER_ADDR=10.0.0.1 ddp_bare --bucket-cap 25MiB
#include <ATen/Parallel.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/nn/module.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "bench/baselines/ddp_sync.hpp"
#include "bench/baselines/gloo_place.hpp"
#include "bench/baselines/launch.hpp"
#include "bench/programs/step_program.hpp"

namespace {

using namespace isobar::bench;

std::unique_ptr<torch::optim::Optimizer> make_torch_optimizer(const StepArguments& arguments,
                                                              torch::nn::Module& module) {
  if (arguments.optimizer == "sgd") {
    return std::make_unique<torch::optim::SGD>(module.parameters(),
                                               torch::optim::SGDOptions(arguments.learning_rate));
  }
  return std::make_unique<torch::optim::AdamW>(
      module.parameters(),
      torch::optim::AdamWOptions(arguments.learning_rate).betas({0.9, 0.95}).weight_decay(0.01));
}

int measure(const StepArguments& arguments, const std::string& address) {
  at::set_num_threads(arguments.threads);
  const auto ranks = make_gloo_subject(gloo_place(address));
  const int64_t cap = parse_bucket_cap(arguments.bucket_cap);
  const DdpSyncOptions caps{
      .bucket_cap_bytes = cap,
      .first_bucket_cap_bytes = std::min(cap, parse_bucket_cap(arguments.first_bucket_cap))};
  const StepCase step_case{
      .make_workload = choose_workload(arguments, ranks->rank()),
      .make_sync =
          [&](torch::nn::Module& module) {
            return arguments.sync == "none"
                       ? make_no_sync(module)
                       : make_ddp_sync(module, gloo_process_group(*ranks), caps);
          },
      .make_optimizer = [&](torch::nn::Module& module) -> std::function<void()> {
        std::shared_ptr<torch::optim::Optimizer> optimizer =
            make_torch_optimizer(arguments, module);
        return [optimizer] { optimizer->step(); };
      }};
  return isobar::run_step(*ranks, step_case, arguments, nlohmann::json::object(),
                          step_options(arguments));
}

}  // namespace

int main(int argc, char** argv) {
  StepArguments arguments;
  arguments.command.assign(argv, argv + argc);
  std::string address = master_address();
  return run_program(
      argc, argv, "PyTorch's reducer over Gloo, from C++",
      [&](CLI::App& app) {
        isobar::add_step_options(app, arguments);
        app.add_option(
            "--address", address,
            "HOST[:PORT] at which rank 0 is found; MASTER_ADDR and MASTER_PORT otherwise");
      },
      [&] { return measure(arguments, address); });
}
