// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/gnn_workload.hpp"

#include <isobar/model/loss.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ops/ones.h>

#include "bench/harness/random_values.hpp"

namespace isobar::bench {
namespace {

constexpr int64_t kInputSteps = 2;

WeatherGnnOptions network_options(const StepArguments& arguments) {
  return {.features_in = kInputSteps * (arguments.prognostic + arguments.forcing),
          .features_out = arguments.prognostic,
          .channels = arguments.channels,
          .layers = arguments.layers,
          .seed = arguments.seed,
          .activations = arguments.recompute ? Activations::recompute : Activations::keep};
}

}  // namespace

MakeWorkload make_gnn_workload(const StepArguments& arguments, int rank) {
  const auto graph = std::make_shared<const WeatherGraph>(
      build_graph(make_gaussian_grid(arguments.grid), {.hidden_level = arguments.hidden}));
  const auto options = network_options(arguments);
  const auto data = [&](const std::string& name, int64_t columns) {
    return random_values({arguments.samples(), graph->data_nodes(), columns}, 1, arguments.seed,
                         name + " " + std::to_string(rank));
  };
  return
      [=, input = data("input", options.features_in), target = data("target", options.features_out),
       weights = at::ones({options.features_out})]() -> Workload {
        const auto network = std::make_shared<WeatherGnn>(options, *graph);
        return {.module = network, .loss = [=] {
                  return weighted_mse(network->forward(input), target, graph->data.area, weights);
                }};
      };
}

}  // namespace isobar::bench
