// SPDX-License-Identifier: Apache-2.0
// `isobar plan`, on one rank and without the data unless they are the grid: what a training step
// takes for each length of forecast, what scores keep of the climatology, and, for nodes that are
// described, what sums of gradients do to a step. The numbers are weather's; options, table and
// rows are here.
#include "cli/command.hpp"
#include "cli/experiment_file.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/model/memory_plan.hpp>
#include <isobar/weather/climatology_plan.hpp>
#include <isobar/weather/experiment.hpp>
#include <isobar/weather/network_plan.hpp>
#include <isobar/weather/plan_sums.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace isobar {
namespace {

struct PlanArguments {
  std::string experiment;              ///< a YAML file
  std::vector<std::string> overrides;  ///< key=value
  std::string device_memory;           ///< such as 64GiB; empty: no limit
  PlannedMachines machines;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

void print_plan(const std::vector<PlannedStep>& all, int ranks) {
  const auto& first = all.front().memory;
  fmt::print("{} parameters of the network and {} in tables,\non the largest of {} ranks a model\n",
             first.network_parameters, first.table_parameters, ranks);
  fmt::print("{:>5} {:>9} {:>6} | {:>7} {:>6} {:>7} {:>9} {:>7} {:>7} {:>6}\n", "steps", "passes",
             "chunk", "weights", "graph", "encoder", "processor", "decoder", "peak", "TFLOP");
  for (const auto& [network, rollout, p] : all) {
    fmt::print(
        "{:>5} {:>9} {:>6} | {:>7.2f} {:>6.2f} {:>7.2f} {:>9.2f} {:>7.2f} {:>7.2f} {:>6.2f}\n",
        rollout, name_of(network.activations), chunk_edges_of(network), gib(p.weight_bytes),
        gib(p.graph_bytes), gib(p.encoder_bytes), gib(p.processor_bytes), gib(p.decoder_bytes),
        gib(p.peak_bytes), p.step_flops / 1e12);
  }
  fmt::print("weights to peak: GiB on a rank; steps: of the forecast that a loss covers\n");
}

nlohmann::json plan_row(const PlannedStep& planned, int64_t memory_bytes) {
  const auto& p = planned.memory;
  return {{"kind", "step"},
          {"rollout", planned.rollout},
          {"activations", name_of(planned.network.activations)},
          {"chunk_edges", chunk_edges_of(planned.network)},
          {"parameters", {{"network", p.network_parameters}, {"tables", p.table_parameters}}},
          {"weight_bytes", p.weight_bytes},
          {"graph_bytes", p.graph_bytes},
          {"encoder_bytes", p.encoder_bytes},
          {"processor_bytes", p.processor_bytes},
          {"decoder_bytes", p.decoder_bytes},
          {"peak_bytes", p.peak_bytes},
          {"flops", p.step_flops},
          {"forward_flops", p.forward_flops},
          {"fits", memory_bytes == 0 || p.peak_bytes <= memory_bytes}};
}

/// Of the largest rank.
nlohmann::json climatology_row(const Experiment& experiment, const std::vector<GraphSizes>& ranks,
                               bool prints) {
  int64_t points = 0;
  for (const GraphSizes& sizes : ranks) points = std::max(points, sizes.data_nodes);
  const auto plan = plan_climatology(experiment, points);
  if (prints) {
    fmt::print("climatology for scores: {:.2f} GiB a rank for {} of {} mean fields at once\n",
               gib(plan.peak_bytes), plan.fields_at_once, plan.fields);
    if (!plan.assumed.empty()) {
      fmt::print("assumed without data.path: {}\n", plan.assumed);
    }
  }
  return {{"kind", "climatology"},
          {"fields", plan.fields},
          {"fields_at_once", plan.fields_at_once},
          {"peak_bytes", plan.peak_bytes},
          {"assumed", plan.assumed}};
}

/// Of one link and all ways to compress.
nlohmann::json link_rows(const PlannedLink& link, double compute_s,
                         const PlannedMachines& machines) {
  auto rows = nlohmann::json::array();
  for (const auto& choice : link.choices) {
    rows.push_back({{"kind", "sums"},
                    {"method", choice.name},
                    {"nodes", machines.nodes},
                    {"node_gbit_s", link.gbit_s},
                    {"payload_bytes", choice.cost.traffic.payload_bytes},
                    {"sent_bytes", choice.cost.traffic.sent_bytes},
                    {"exposed_comm_s", choice.step.exposed_comm_s},
                    {"step_s", choice.step.step_s},
                    {"compute_s", compute_s},
                    {"efficiency", compute_s / choice.step.step_s},
                    {"of_none", choice.step.step_s / link.choices.front().step.step_s},
                    {"advice", link.advice}});
  }
  return rows;
}

nlohmann::json sum_rows(const PlannedSums& sums, const PlannedMachines& machines) {
  auto rows = nlohmann::json::array();
  for (const auto& link : sums.links) {
    for (auto& row : link_rows(link, sums.compute_s, machines)) rows.push_back(std::move(row));
  }
  return rows;
}

void print_sums(const PlannedSums& sums, const PlannedMachines& machines) {
  fmt::print("\n{} buckets over {} nodes of {} ranks; passes of {:.1f} ms\n", sums.buckets,
             machines.nodes, machines.node_ranks, 1e3 * sums.compute_s);
  fmt::print("rates of a rank, as given or else a large GPU's: {:g} TFLOP/s, {:g} GB/s\n",
             machines.rank_tflop_s, machines.rank_gbyte_s);
  fmt::print("{:>7} {:<17} {:>10} {:>9} {:>10} {:>9} {:>10}\n", "Gbit/s", "", "payload MB",
             "sent MB", "exposed ms", "step ms", "efficiency");
  for (const auto& link : sums.links) {
    for (const auto& [name, cost, step, wire] : link.choices) {
      fmt::print("{:>7} {:<17} {:>10.1f} {:>9.1f} {:>10.2f} {:>9.1f} {:>10.3f}\n", link.gbit_s,
                 name, 1e-6 * static_cast<double>(cost.traffic.payload_bytes),
                 1e-6 * static_cast<double>(cost.traffic.sent_bytes), 1e3 * step.exposed_comm_s,
                 1e3 * step.step_s, sums.compute_s / step.step_s);
    }
    fmt::print("{}\n", link.advice);
  }
}

void add_machine_options(CLI::App& app, PlannedMachines& machines) {
  const auto add = [&](const char* name, auto& value, const char* text) {
    return app.add_option(name, value, text)->check(check_positive);
  };
  auto* nodes =
      add("--nodes", machines.nodes, "also predict how gradients are summed over so many nodes");
  add("--node-ranks", machines.node_ranks, "ranks on each node");
  auto* links = add("--node-gbit-s", machines.node_gbit_s,
                    "Gbit/s that leave a node; one number, or several by comma")
                    ->delimiter(',');
  nodes->needs(links);
  links->needs(nodes);
  add("--latency-us", machines.latency_us,
      "microseconds of a collective over nodes, whatever its size");
  add("--rank-tflop-s", machines.rank_tflop_s,
      "TFLOP/s that a rank reaches in forward and backward passes");
  add("--rank-gbyte-s", machines.rank_gbyte_s, "GB/s that a rank's memory moves");
}

void add_plan_options(CLI::App& app, PlanArguments& arguments) {
  app.add_option("experiment", arguments.experiment, "the experiment, a YAML file")->required();
  app.add_option("overrides", arguments.overrides, "keys to change, such as train.steps=100");
  app.add_option("--device-memory", arguments.device_memory,
                 "such as 64GiB: choose what is kept for the backward pass so that a step fits");
  add_machine_options(app, arguments.machines);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// Predicts what a training step of an experiment takes on each rank of a model, for each length of
/// forecast. Needs the data only where they are the grid. Returns 1 where it does not fit.
int run_plan(const PlanArguments& arguments) {
  if (read_launch_environment().rank != 0) return 0;  // one rank speaks and works for all
  int64_t memory_bytes = 0;
  if (!arguments.device_memory.empty()) {
    const auto bytes = parse_bytes(arguments.device_memory);
    ISOBAR_CHECK(bytes && *bytes > 0, "plan: --device-memory '", arguments.device_memory,
                 "' is no size; write 64GiB");
    memory_bytes = *bytes;
  }
  const auto experiment = read_experiment_file(arguments.experiment, arguments.overrides);
  if (arguments.machines.nodes > 0) check_machines(arguments.machines, experiment);
  const auto graph = make_graph(experiment);
  const auto ranks = model_sizes(experiment, graph);
  const auto all = plan_steps(experiment, ranks, memory_bytes);
  auto rows = nlohmann::json::array();
  for (const PlannedStep& step : all) rows.push_back(plan_row(step, memory_bytes));
  const bool prints = arguments.json != "-";
  if (prints) print_plan(all, static_cast<int>(ranks.size()));
  rows.push_back(climatology_row(experiment, ranks, prints));
  if (arguments.machines.nodes > 0) {
    const WeatherGnn network(network_options(experiment), graph);
    const auto sums = plan_sums(
        experiment, network, all.front().memory, arguments.machines, [](const std::string& method) {
          std::fprintf(stderr, "plan: counting what %s sends ...\n", method.c_str());
        });
    if (prints) print_sums(sums, arguments.machines);
    for (auto& row : sum_rows(sums, arguments.machines)) rows.push_back(std::move(row));
  }
  write_report(arguments.json, "isobar.plan.1", arguments.command, rows);
  const bool fits = memory_bytes == 0 || all.back().memory.peak_bytes <= memory_bytes;
  if (!fits && prints) {
    fmt::print("does not fit into {}: take more ranks a model (model.ranks), or fewer channels\n",
               arguments.device_memory);
  }
  return fits ? 0 : 1;
}

const RegisteredCommand kPlan{{.place = 40,
                               .group = "",
                               .name = "plan",
                               .description = "Predict memory and time of a training step",
                               .example = "isobar plan experiment.yaml --nodes 8 --node-gbit-s 200",
                               .add = with_arguments(add_plan_options, run_plan)}};

}  // namespace
}  // namespace isobar
