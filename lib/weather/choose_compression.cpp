// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/choose_compression.hpp>

#include <isobar/compress/break_even.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <isobar/ddp/trainable.hpp>

namespace isobar {
namespace {

constexpr int kProfilePasses = 4;

/// Medians of the slowest rank's passes.
StepCompute time_passes(const Task& task, const Batch& batch, Communicator& group) {
  std::vector<double> forward, backward;
  for (int i = -1; i < kProfilePasses; ++i) {
    task.module->zero_grad(/*set_to_none=*/true);
    group.barrier().synchronize();
    Stopwatch watch;
    const auto loss = task.loss(batch);
    loss.item<double>();  // waits for a device
    const double forward_s = watch.restart();
    loss.backward();
    if (i < 0) continue;
    forward.push_back(forward_s);
    backward.push_back(watch.elapsed_s());
  }
  task.module->zero_grad(/*set_to_none=*/true);
  auto times = at::tensor(
      {summarize(std::move(forward)).median, summarize(std::move(backward)).median}, at::kDouble);
  group.allreduce(times, ReduceOp::maximum).synchronize();
  return {.forward_s = times[0].item<double>(),
          .backward_s = times[1].item<double>(),
          .optimizer_s = 0,
          .buckets = {}};
}

}  // namespace

std::string choose_compression(CompressionOptions& options, const Task& task, const Batch& batch,
                               const BucketCaps& caps, const ProcessGrid& grid) {
  Communicator& group = grid.data();
  const auto parameters = trainable(*task.module);
  const auto plan = first_plan(parameters, caps);
  const auto compute = time_passes(task, batch, group);
  const std::vector<std::string> methods{"none", "bf16", "acp_sgd", "power_sgd"};
  std::vector<CompressionChoice> choices;
  for (const auto& method : methods) {
    auto trial = options;
    trial.method = method;
    trial.low_rank.start_step = 0;
    const auto compressor = make_compressor(trial);
    group.barrier().synchronize();
    auto cost = measure_compression(parameters, plan, compressor.get(), group.size());
    choices.push_back({method, slowest(std::move(cost), group)});
    if (const auto type = type_summed(trial); type != at::kFloat) {
      choices.back().wire = measure_allreduce(group, type);
    }
  }
  predict_choices(choices, compute, evenly_ready(plan, compute.backward_s),
                  measure_allreduce(group), group.size());
  const auto advice = advise_compression(choices);
  // The members of a model have other tables, and may come to other choices.
  auto choice = at::full({1}, static_cast<int64_t>(advice.choice), at::kLong);
  grid.world().broadcast(choice, 0).synchronize();
  options.method = methods[choice.item<int64_t>()];
  return "compress.method auto: " + advice.reason;
}

}  // namespace isobar
