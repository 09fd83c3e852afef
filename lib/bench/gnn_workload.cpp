// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/gnn_workload.hpp>

#include <isobar/bench/random_values.hpp>
#include <isobar/comm/communicator.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <isobar/model/loss.hpp>
#include <isobar/model/tensor_memory.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ops/ones.h>

namespace isobar::bench {
namespace {

constexpr int64_t kInputSteps = 2;

c10::ScalarType compute_of(const std::string& precision) {
  if (precision == "bf16") return at::kBFloat16;
  return precision == "fp16" ? at::kHalf : c10::ScalarType::Undefined;
}

WeatherGnnOptions network_options(const StepArguments& arguments) {
  return {.features_in = kInputSteps * (arguments.prognostic + arguments.forcing),
          .features_out = arguments.prognostic,
          .channels = arguments.channels,
          .layers = arguments.layers,
          .seed = arguments.seed,
          .compute = compute_of(arguments.precision),
          .activations = arguments.recompute ? Activations::recompute : Activations::keep,
          .chunk_edges = arguments.chunk_edges,
          .device_memory_bytes = TensorMemory::capacity(rank_device(arguments.device))};
}

WeatherGraph graph_of(const StepArguments& arguments) {
  return build_graph(make_gaussian_grid(arguments.grid), {.hidden_level = arguments.hidden});
}

at::Tensor data_of(const StepArguments& arguments, int64_t nodes, int64_t columns,
                   const std::string& name) {
  return random_values({arguments.samples(), nodes, columns}, 1, arguments.seed, name)
      .to(rank_device(arguments.device));
}

/// Of the variables in the loss.
at::Tensor weights_of(const StepArguments& arguments) {
  return at::ones({arguments.prognostic}).to(rank_device(arguments.device));
}

}  // namespace

MakeWorkload make_gnn_workload(const StepArguments& arguments, int rank) {
  const auto graph = std::make_shared<const WeatherGraph>(graph_of(arguments));
  const auto options = network_options(arguments);
  const auto data = [&](const std::string& name, int64_t columns) {
    return data_of(arguments, graph->data_nodes(), columns, name + " " + std::to_string(rank));
  };
  return [=, input = data("input", options.features_in),
          target = data("target", options.features_out),
          area = graph->data.area.to(rank_device(arguments.device)),
          weights = weights_of(arguments)]() -> Workload {
    const auto network = std::make_shared<WeatherGnn>(options, *graph);
    network->to(input.device());
    return {.module = network,
            .loss = [=] { return weighted_mse(network->forward(input), target, area, weights); },
            .device = input.device()};
  };
}

MakeWorkload make_sharded_gnn_workload(const StepArguments& arguments, Communicator& model) {
  const auto graph = graph_of(arguments);
  const auto partition =
      make_partition(graph, model.size(), parse_partition_method(arguments.shard));
  const auto shard = std::make_shared<const GraphShard>(make_shard(graph, partition, model.rank()));
  const auto options = network_options(arguments);
  const auto device = rank_device(arguments.device);
  const auto data = [&](const std::string& name, int64_t columns) {
    return data_of(arguments, graph.data_nodes(), columns, name + " 0")
        .index_select(1, shard->data_rows.to(device));
  };
  return [=, &model, input = data("input", options.features_in),
          target = data("target", options.features_out),
          area = graph.data.area.index_select(0, shard->data_rows).to(device),
          weights = weights_of(arguments)]() -> Workload {
    const auto network = std::make_shared<WeatherGnn>(options, *shard, model);
    network->to(device);
    return {.module = network,
            .loss = [=] { return weighted_mse(network->forward(input), target, area, weights); },
            .device = device};
  };
}

}  // namespace isobar::bench
