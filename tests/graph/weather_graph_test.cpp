// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/message_of.hpp"
#include "graph/meshes.hpp"

namespace isobar::weather_graph_test {
namespace {

TEST(WeatherGraph, CoversARegionWithARestrictedMesh) {
  for (const int64_t level : {6, 7}) {
    const WeatherGraph graph =
        build_graph(test::regional_grid(), {.hidden_level = level, .margin_degrees = 1.0});

    EXPECT_EQ(graph.data_nodes(), 1617);
    EXPECT_EQ(graph.uncovered, 0);
    EXPECT_EQ(graph.decoder.size(), 3 * 1617);
    EXPECT_EQ(graph.hidden_nodes(), level == 6 ? 86 : 364);
    EXPECT_EQ(graph.encoder.destinations, graph.hidden_nodes());
    EXPECT_EQ(graph.processor.sources, graph.hidden_nodes());
  }
}

TEST(WeatherGraph, CountsDataNodesThatTheEncoderMisses) {
  const WeatherGraph graph = build_graph(
      test::regional_grid(), {.hidden_level = 6, .margin_degrees = 1.0, .max_neighbours = 4});
  at::Tensor seen = at::zeros({graph.data_nodes()}, at::kBool);
  seen.index_put_({graph.encoder.source}, at::scalar_tensor(true, at::kBool));

  EXPECT_GT(graph.uncovered, 0);
  EXPECT_EQ(graph.uncovered, graph.data_nodes() - seen.sum().item<int64_t>());
}

TEST(WeatherGraph, KeepsTheWholeMeshForTheGlobe) {
  const Grid globe = make_latlon_grid(test::axis(88.5, -3, 60), test::axis(0, 3, 120));
  // Meridians meet at the poles: with the default limit of 64 neighbours 152 points are left out.
  const WeatherGraph graph = build_graph(globe, {.hidden_level = 3, .max_neighbours = 1000});

  EXPECT_EQ(graph.hidden_nodes(), 642);
  EXPECT_EQ(graph.processor.size(), 5040);
  EXPECT_EQ(graph.uncovered, 0);
}

TEST(WeatherGraph, NamesWhatToChangeWhereTheMeshIsTooCoarse) {
  const Grid region = make_latlon_grid({50, 49}, {0, 1, 2});
  const auto message = test::message_of<UsageError>([&] {
    build_graph(region, {.hidden_level = 2, .margin_degrees = 16, .decoder_neighbours = 9});
  });
  EXPECT_NE(message.find(", of 9 that are wanted at least: each point reads the nearest 9; take a "
                         "finer hidden_level"),
            std::string::npos)
      << message;
}

void expect_same(const EdgeSet& a, const EdgeSet& b) {
  EXPECT_TRUE(at::equal(a.source, b.source));
  EXPECT_TRUE(at::equal(a.destination, b.destination));
  EXPECT_TRUE(at::equal(a.attributes, b.attributes));
}

TEST(WeatherGraph, DoesNotDependOnTheNumberOfThreads) {
  // Enough nodes and edges for several chunks of work.
  const Grid globe = make_latlon_grid(test::axis(89, -2, 90), test::axis(0, 2, 180));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const WeatherGraph one = build_graph(globe, {.hidden_level = 5});
  at::set_num_threads(3);
  const WeatherGraph three = build_graph(globe, {.hidden_level = 5});
  at::set_num_threads(threads);

  expect_same(one.encoder, three.encoder);
  expect_same(one.processor, three.processor);
  expect_same(one.decoder, three.decoder);
}

TEST(NodeAttributes, AreSinesThenCosines) {
  const at::Tensor got = node_attributes(at::tensor({30.}), at::tensor({90.}));
  const at::Tensor wanted = at::tensor({0.5, 1.0, 0.8660254, 0.0}, at::kFloat).view({1, 4});

  EXPECT_TRUE(at::allclose(got, wanted, 0, 1e-7)) << got;
}

}  // namespace
}  // namespace isobar::weather_graph_test
