// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/thread_world.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>

#include "graph/meshes.hpp"

namespace isobar::sharded_gnn_test {
namespace {

constexpr int64_t kIn = 3, kOut = 2;

at::Tensor values(at::IntArrayRef shape, double phase) {
  const at::Tensor empty = at::empty(shape, at::kDouble);
  return at::arange(empty.numel(), at::kDouble).mul(0.7).add(phase).sin().view(shape);
}

WeatherGnnOptions options_of(Activations activations) {
  return {.features_in = kIn,
          .features_out = kOut,
          .channels = 6,
          .layers = 2,
          .node_table = 2,
          .edge_table = 2,
          .activations = activations,
          .chunk_edges = 300};
}

/// Parameters that are not the initial ones: tables by their place in the whole graph.
void fill(WeatherGnn& network) {
  network.to(at::kDouble);
  const at::NoGradGuard no_gradient;
  double phase = 0;
  for (const auto& parameter : network.named_parameters()) {
    const auto owned = network.owned_rows(parameter.key());
    const auto& tensor = parameter.value();
    auto shape = tensor.sizes().vec();
    if (owned) shape[0] = owned->total;
    const auto whole = values(shape, ++phase);
    tensor.add_(owned ? whole.index_select(0, owned->rows) : whole, 0.3);
  }
}

struct Outcome {
  at::Tensor output;
  std::map<std::string, at::Tensor> gradients;
};

/// A step's output and gradients, of the rows `rows` of a sample.
Outcome step(WeatherGnn& network, const at::Tensor& rows, int64_t nodes) {
  const auto x = values({2, nodes, kIn}, 0.1).index_select(1, rows);
  const auto weights = values({2, nodes, kOut}, 0.2).index_select(1, rows);
  Outcome outcome{network.forward(x), {}};
  (outcome.output * weights).sum().backward();
  for (const auto& parameter : network.named_parameters()) {
    outcome.gradients[parameter.key()] = parameter.value().grad();
  }
  return outcome;
}

// What is not owned is a share that the ranks add up.
at::Tensor whole_gradient(const WeatherGnn& network, const std::string& name, at::Tensor gradient,
                          Communicator& comm) {
  if (const auto owned = network.owned_rows(name)) {
    gradient = at::zeros({owned->total, gradient.size(1)}, gradient.options())
                   .index_copy(0, owned->rows, gradient);
  }
  auto sum = gradient.clone();
  comm.allreduce(sum).wait();
  return sum;
}

using Layout = std::tuple<int, PartitionMethod, Activations>;
class Sharded : public testing::TestWithParam<Layout> {};

// Sums over edges keep their order; what differs are the shapes of matrix products and the order in
// which gradients of ranks and chunks are added, so float64 leaves 1e-12 of a tensor's norm.
TEST_P(Sharded, GivesWhatTheWholeNetworkGives) {
  const auto [ranks, method, activations] = GetParam();
  const auto graph = test::global_mesh();
  WeatherGnn whole(options_of(Activations::keep), graph);
  fill(whole);
  const auto wanted = step(whole, at::arange(graph.data_nodes()), graph.data_nodes());
  const auto partition = make_partition(graph, ranks, method);
  run_ranks(ranks, [&, kept = activations](Communicator& comm) {
    const auto shard = make_shard(graph, partition, comm.rank());
    WeatherGnn network(options_of(kept), shard, comm);
    fill(network);
    const auto got = step(network, shard.data_rows, graph.data_nodes());

    EXPECT_TRUE(at::allclose(got.output, wanted.output.index_select(1, shard.data_rows), 0, 1e-12));
    for (const auto& [name, gradient] : got.gradients) {
      const auto sum = whole_gradient(network, name, gradient, comm);
      const auto& other = wanted.gradients.at(name);
      EXPECT_LT((sum - other).norm().item<double>(), 1e-12 * other.norm().item<double>()) << name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    WeatherGnn, Sharded,
    testing::Combine(testing::Values(1, 2, 3, 4),
                     testing::Values(PartitionMethod::bands, PartitionMethod::bisection),
                     testing::Values(Activations::keep, Activations::recompute)));

TEST(WeatherGnn, OwnsItsRowsOfTablesAndNothingElse) {
  const auto graph = test::global_mesh();
  run_ranks(2, [&](Communicator& comm) {
    const auto shard = make_shard(graph, make_partition(graph, 2), comm.rank());
    const WeatherGnn network(options_of(Activations::keep), shard, comm);
    for (const auto& parameter : network.named_parameters()) {
      const auto owned = network.owned_rows(parameter.key());
      EXPECT_EQ(owned.has_value(), parameter.key().ends_with("_table")) << parameter.key();
      if (owned) {
        EXPECT_EQ(owned->rows.size(0), parameter.value().size(0));
      }
    }
  });
}

}  // namespace
}  // namespace isobar::sharded_gnn_test
