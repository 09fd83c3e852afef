// SPDX-License-Identifier: Apache-2.0
// The part of `isobar plan` that needs nodes: what each way to compress sends is counted on the
// network's real buckets, and the times of passes, memory and wire are those that the user gives.
#include <isobar/weather/plan_sums.hpp>

#include <isobar/compress/make_compressor.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/trainable.hpp>

#include <algorithm>
#include <map>

namespace isobar {
namespace {

/// What a method reads and writes for each float32 gradient, in bytes, by stage and afterwards.
/// The 16-bit one reads and writes 2 bytes of what travels. The others read gradient and residual
/// and write the residual, power_sgd reads that again for its second factor, and both write what
/// takes the gradient's place. Products of low rank stay in a processor's registers.
struct MemoryPasses {
  std::vector<double> stages;
  double complete = 0;
};

const std::map<std::string, MemoryPasses>& memory_passes() {
  static const std::map<std::string, MemoryPasses> passes{
      {"none", {{0}, 0}},
      {"bf16", {{6}, 6}},
      {"acp_sgd", {{12}, 4}},
      {"power_sgd", {{12, 4}, 4}},
  };
  return passes;
}

/// Every stage of `cost` in the time that a rank's memory takes, which has its share of a node's
/// gradients.
void set_memory_times(CompressionCost& cost, const BucketPlan& plan, const MemoryPasses& passes,
                      const PlannedMachines& machines) {
  for (size_t b = 0; b < cost.buckets.size(); ++b) {
    const double values = static_cast<double>(plan[b].bytes) / 4 / machines.node_ranks;
    const double value_s = values / (machines.rank_gbyte_s * 1e9);
    auto& bucket = cost.buckets[b];
    for (size_t s = 0; s < bucket.stages.size(); ++s) {
      bucket.stages[s].compute_s = value_s * passes.stages.at(s);
    }
    bucket.complete_s = value_s * passes.complete;
  }
}

std::vector<CompressionChoice> make_choices(const Experiment& experiment,
                                            const std::vector<NamedParameter>& parameters,
                                            const BucketPlan& plan, const PlannedMachines& machines,
                                            const CountingMethod& counting) {
  std::vector<CompressionChoice> choices;
  for (const std::string method : {"none", "bf16", "acp_sgd", "power_sgd"}) {
    auto options = experiment.compress;
    options.method = method;
    options.low_rank.start_step = 0;
    if (counting) counting(method);
    const auto compressor = make_compressor(options);
    auto cost = measure_compression(parameters, plan, compressor.get(), machines.nodes, 2);
    set_memory_times(cost, plan, memory_passes().at(method), machines);
    choices.push_back({name_of(options), std::move(cost)});
  }
  return choices;
}

}  // namespace

void check_machines(const PlannedMachines& machines, const Experiment& experiment) {
  ISOBAR_CHECK(machines.node_ranks % experiment.model_ranks == 0, "plan: ", experiment.model_ranks,
               " ranks a model do not divide the ", machines.node_ranks,
               " of a node; set --node-ranks");
}

PlannedSums plan_sums(const Experiment& experiment, const WeatherGnn& network,
                      const MemoryPlan& passes, const PlannedMachines& machines,
                      const CountingMethod& counting) {
  const auto parameters = trainable(network);
  const auto plan = first_plan(parameters, experiment.trainer.ddp.reducer.caps);
  const double flop_s = machines.rank_tflop_s * 1e12;
  const StepCompute compute{.forward_s = passes.forward_flops / flop_s,
                            .backward_s = (passes.step_flops - passes.forward_flops) / flop_s,
                            .optimizer_s = 0,
                            .buckets = {}};
  auto choices = make_choices(experiment, parameters, plan, machines, counting);
  PlannedSums sums{plan.size(), compute.forward_s + compute.backward_s, {}};
  for (const double gbit_s : machines.node_gbit_s) {
    const AllreduceCost wire{machines.latency_us * 1e-6, gbit_s * 1e9 / 8};
    predict_choices(choices, compute, evenly_ready(plan, compute.backward_s), wire, machines.nodes);
    sums.links.push_back({gbit_s, choices, advise_compression(choices).reason});
  }
  return sums;
}

}  // namespace isobar
