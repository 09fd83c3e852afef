// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_sums.hpp"

#include "cli/trainable.hpp"

#include <isobar/compress/break_even.hpp>
#include <isobar/core/error.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <map>

#include "bench/harness/option_check.hpp"

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
                                            const BucketPlan& plan,
                                            const PlannedMachines& machines) {
  std::vector<CompressionChoice> choices;
  for (const std::string method : {"none", "bf16", "acp_sgd", "power_sgd"}) {
    auto options = experiment.compress;
    options.method = method;
    options.low_rank.start_step = 0;
    std::fprintf(stderr, "plan: counting what %s sends ...\n", method.c_str());
    const auto compressor = make_compressor(options);
    auto cost = measure_compression(parameters, plan, compressor.get(), machines.nodes, 2);
    set_memory_times(cost, plan, memory_passes().at(method), machines);
    choices.push_back({name_of(options), std::move(cost)});
  }
  return choices;
}

nlohmann::json make_row(const CompressionChoice& choice, const CompressionChoice& without,
                        double compute_s, double gbit_s, const PlannedMachines& machines) {
  return {{"kind", "sums"},
          {"method", choice.name},
          {"nodes", machines.nodes},
          {"node_gbit_s", gbit_s},
          {"payload_bytes", choice.cost.traffic.payload_bytes},
          {"sent_bytes", choice.cost.traffic.sent_bytes},
          {"exposed_comm_s", choice.step.exposed_comm_s},
          {"step_s", choice.step.step_s},
          {"compute_s", compute_s},
          {"efficiency", compute_s / choice.step.step_s},
          {"of_none", choice.step.step_s / without.step.step_s}};
}

void print_rows(const nlohmann::json& rows, const std::string& advice) {
  for (const auto& row : rows) {
    fmt::print("{:>7} {:<17} {:>10.1f} {:>9.1f} {:>10.2f} {:>9.1f} {:>10.3f}\n",
               row["node_gbit_s"].get<double>(), row["method"].get<std::string>(),
               1e-6 * row["payload_bytes"].get<double>(), 1e-6 * row["sent_bytes"].get<double>(),
               1e3 * row["exposed_comm_s"].get<double>(), 1e3 * row["step_s"].get<double>(),
               row["efficiency"].get<double>());
  }
  fmt::print("{}\n", advice);
}

}  // namespace

void add_machine_options(CLI::App& app, PlannedMachines& machines) {
  const auto add = [&](const char* name, auto& value, const char* text) {
    return app.add_option(name, value, text)->check(bench::check_positive);
  };
  auto* nodes = add("--nodes", machines.nodes, "plans the sums of gradients over them, too");
  add("--node-ranks", machines.node_ranks, "ranks of a node");
  auto* links = add("--node-gbit-s", machines.node_gbit_s,
                    "what leaves a node in a second, one or several by comma")
                    ->delimiter(',');
  nodes->needs(links);
  links->needs(nodes);
  add("--latency-us", machines.latency_us, "of a collective over the nodes");
  add("--rank-tflop-s", machines.rank_tflop_s, "what a rank's passes reach");
  add("--rank-gbyte-s", machines.rank_gbyte_s, "what a rank's memory reaches");
}

void check_machines(const PlannedMachines& machines, const Experiment& experiment) {
  ISOBAR_CHECK(machines.node_ranks % experiment.model_ranks == 0, "plan: ", experiment.model_ranks,
               " ranks a model do not divide the ", machines.node_ranks,
               " of a node; set --node-ranks");
}

nlohmann::json plan_sums(const Experiment& experiment, const WeatherGnn& network,
                         const MemoryPlan& passes, const PlannedMachines& machines, bool prints) {
  const auto parameters = trainable(network);
  const auto plan = first_plan(parameters, experiment.trainer.ddp);
  const double flop_s = machines.rank_tflop_s * 1e12;
  const StepCompute compute{.forward_s = passes.forward_flops / flop_s,
                            .backward_s = (passes.step_flops - passes.forward_flops) / flop_s,
                            .optimizer_s = 0,
                            .buckets = {}};
  const double compute_s = compute.forward_s + compute.backward_s;
  auto choices = make_choices(experiment, parameters, plan, machines);
  auto rows = nlohmann::json::array();
  if (prints) {
    fmt::print("\n{} buckets over {} nodes of {} ranks; passes of {:.1f} ms\n", plan.size(),
               machines.nodes, machines.node_ranks, 1e3 * compute_s);
    fmt::print("{:>7} {:<17} {:>10} {:>9} {:>10} {:>9} {:>10}\n", "Gbit/s", "", "payload MB",
               "sent MB", "exposed ms", "step ms", "efficiency");
  }
  for (const double gbit_s : machines.node_gbit_s) {
    const AllreduceCost wire{machines.latency_us * 1e-6, gbit_s * 1e9 / 8};
    predict_choices(choices, compute, evenly_ready(plan, compute.backward_s), wire, machines.nodes);
    const auto advice = advise_compression(choices);
    auto some = nlohmann::json::array();
    for (const auto& choice : choices) {
      some.push_back(make_row(choice, choices.front(), compute_s, gbit_s, machines));
      some.back()["advice"] = advice.reason;
    }
    if (prints) print_rows(some, advice.reason);
    for (auto& row : some) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace isobar
