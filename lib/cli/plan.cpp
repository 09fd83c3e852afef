// SPDX-License-Identifier: Apache-2.0
#include "cli/plan.hpp"

#include "cli/experiment.hpp"
#include "cli/network_plan.hpp"
#include "cli/report.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/period.hpp>
#include <isobar/model/memory_plan.hpp>
#include <isobar/train/climatology_groups.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace isobar {
namespace {

/// What is planned: the rank of a model that needs most.
struct Planned {
  WeatherGnnOptions network;
  int64_t rollout = 1;
  MemoryPlan plan;
};

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

std::vector<int64_t> rollouts(const Experiment& experiment) {
  std::vector<int64_t> lengths;
  const int64_t longest = experiment.longest_rollout();
  for (int64_t length = 1; length < longest; length *= 2) lengths.push_back(length);
  lengths.push_back(longest);
  return lengths;
}

Planned plan_largest(const Experiment& experiment, const std::vector<GraphSizes>& ranks,
                     int64_t rollout, int64_t memory_bytes) {
  Planned largest;
  largest.rollout = rollout;
  for (const GraphSizes& sizes : ranks) {
    const auto options = plan_options(experiment, rollout);
    auto network = network_options(experiment);
    if (memory_bytes > 0 && network.device_memory_bytes > 0) {
      network.device_memory_bytes = memory_bytes;
    }
    if (memory_bytes > 0) network = fit_memory(network, sizes, options, memory_bytes);
    const auto plan = plan_memory(network, sizes, options);
    if (plan.peak_bytes > largest.plan.peak_bytes) largest = {network, rollout, plan};
  }
  return largest;
}

void print_table(const std::vector<Planned>& all, int ranks) {
  const auto& first = all.front().plan;
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

nlohmann::json json_of(const Planned& planned, int64_t memory_bytes) {
  const auto& p = planned.plan;
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

/// What the climatology of `isobar evaluate` takes on the largest rank: of each time of day and day
/// of the year that a step of forecasts from the test period can have as its target, as many at
/// once as group_by_climatology() takes.
nlohmann::json plan_climatology(const Experiment& experiment, const std::vector<GraphSizes>& ranks,
                                bool prints) {
  int64_t points = 0;
  for (const GraphSizes& sizes : ranks) points = std::max(points, sizes.data_nodes);
  const auto days = [](const PeriodText& text) {
    const auto period = parse_period(text.begin, text.end);
    return (period.end - period.begin + kDaySeconds - 1) / kDaySeconds;
  };
  const int64_t hours = 24 % experiment.step_hours == 0 ? 24 / experiment.step_hours : 24;
  const bool seasonal = days(experiment.train) >= 360;
  const int64_t all = hours * (seasonal ? std::min<int64_t>(366, days(experiment.test)) : 1);
  const auto variables = static_cast<int64_t>(experiment.outputs().size());
  const int64_t each = climatology_bytes(1, points, variables);
  const int64_t most = std::max<int64_t>(60, experiment.data.cache_bytes / each);
  const int64_t fields = std::min(all, most);
  if (prints) {
    fmt::print(
        "scoring against the climatology: {:.2f} GiB a rank for {} of {} mean fields at once\n",
        gib(climatology_bytes(fields, points, variables)), fields, all);
  }
  return {{"kind", "climatology"},
          {"fields", all},
          {"fields_at_once", fields},
          {"peak_bytes", climatology_bytes(fields, points, variables)}};
}

}  // namespace

void add_plan_options(CLI::App& app, PlanArguments& arguments) {
  app.add_option("experiment", arguments.experiment, "a YAML file")->required();
  app.add_option("overrides", arguments.overrides, "section.key=value, over the file's");
  app.add_option("--device-memory", arguments.device_memory,
                 "such as 64GiB: chooses what is kept for the backward pass so that a step fits");
  add_machine_options(app, arguments.machines);
  app.add_option("--json", arguments.json, "write the rows there; - is standard output");
}

int run_plan(const PlanArguments& arguments) {
  int64_t memory_bytes = 0;
  if (!arguments.device_memory.empty()) {
    const auto bytes = parse_bytes(arguments.device_memory);
    ISOBAR_CHECK(bytes && *bytes > 0, "plan: --device-memory '", arguments.device_memory,
                 "' is no size; write 64GiB");
    memory_bytes = *bytes;
  }
  const auto experiment = read_experiment(load_config(arguments.experiment, arguments.overrides));
  if (arguments.machines.nodes > 0) check_machines(arguments.machines, experiment);
  const auto graph = make_graph(experiment);
  const auto ranks = model_sizes(experiment, graph);
  std::vector<Planned> all;
  auto rows = nlohmann::json::array();
  for (const int64_t rollout : rollouts(experiment)) {
    all.push_back(plan_largest(experiment, ranks, rollout, memory_bytes));
    rows.push_back(json_of(all.back(), memory_bytes));
  }
  const bool prints = arguments.json != "-";
  if (prints) print_table(all, static_cast<int>(ranks.size()));
  rows.push_back(plan_climatology(experiment, ranks, prints));
  if (arguments.machines.nodes > 0) {
    const WeatherGnn network(network_options(experiment), graph);
    for (auto& row : plan_sums(experiment, network, all.front().plan, arguments.machines, prints)) {
      rows.push_back(std::move(row));
    }
  }
  write_report(arguments.json, "isobar.plan.1", arguments.command, rows);
  const bool fits = memory_bytes == 0 || all.back().plan.peak_bytes <= memory_bytes;
  if (!fits && prints) {
    fmt::print("does not fit into {}: take more ranks a model (model.ranks), or fewer channels\n",
               arguments.device_memory);
  }
  return fits ? 0 : 1;
}

}  // namespace isobar
