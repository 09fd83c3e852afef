// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_gnn.hpp"

#include <isobar/model/loss.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ops/ones.h>
#include <nlohmann/json.hpp>

#include "bench/harness/random_values.hpp"

namespace isobar {
namespace {

constexpr int64_t kInputSteps = 2;

WeatherGnnOptions network_options(const BenchStepArguments& arguments) {
  return {.features_in = kInputSteps * (arguments.prognostic + arguments.forcing),
          .features_out = arguments.prognostic,
          .channels = arguments.channels,
          .layers = arguments.common.layers,
          .seed = arguments.common.seed};
}

}  // namespace

bench::MakeWorkload make_gnn_workload(const BenchStepArguments& arguments, int rank) {
  const auto graph = std::make_shared<const WeatherGraph>(
      build_graph(make_gaussian_grid(arguments.grid), {.hidden_level = arguments.hidden}));
  const auto options = network_options(arguments);
  const auto data = [&](const std::string& name, int64_t columns) {
    return bench::random_values({arguments.common.samples(), graph->data_nodes(), columns}, 1,
                                arguments.common.seed, name + " " + std::to_string(rank));
  };
  return
      [=, input = data("input", options.features_in), target = data("target", options.features_out),
       weights = at::ones({options.features_out})]() -> bench::Workload {
        const auto network = std::make_shared<WeatherGnn>(options, *graph);
        return {.module = network, .loss = [=] {
                  return weighted_mse(network->forward(input), target, graph->data.area, weights);
                }};
      };
}

nlohmann::json gnn_fields(const BenchStepArguments& arguments) {
  return {{"grid", arguments.grid},
          {"hidden", arguments.hidden},
          {"channels", arguments.channels},
          {"layers", arguments.common.layers},
          {"prognostic", arguments.prognostic},
          {"forcing", arguments.forcing}};
}

}  // namespace isobar
