// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/voronoi.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "graph/meshes.hpp"

namespace isobar::gaussian_grid_test {
namespace {

TEST(GaussianGrid, HasThePublishedSizesAndFirstLatitudes) {
  // Sizes: Atlas's tables and 4 N (N + 9); latitudes as ECMWF publishes them.
  const struct {
    const char* name;
    int64_t size;
    double first;
  } cases[] = {{"N32", 6114, 87.86379884},
               {"N80", 35718, 89.14151943},
               {"N320", 542080, 89.78487690721863},
               {"O32", 5248, 87.86379884},
               {"O96", 40320, 89.28422752}};
  for (const auto& [name, size, first] : cases) {
    const Grid grid = make_gaussian_grid(name);
    EXPECT_EQ(grid.size(), size) << name;
    EXPECT_NEAR(grid.latitude[0].item<double>(), first, 2e-8) << name;
    EXPECT_FALSE(grid.regional);
    EXPECT_EQ(grid.name, name);
  }
}

TEST(GaussianGrid, RunsFromNorthToSouthAndEastFromGreenwich) {
  const Grid grid = make_gaussian_grid("O32");  // rows of 20, 24, ... points

  EXPECT_EQ(grid.longitude[0].item<double>(), 0);
  EXPECT_EQ(grid.longitude[1].item<double>(), 18);
  EXPECT_EQ(grid.longitude[20].item<double>(), 0);
  EXPECT_EQ(grid.longitude[21].item<double>(), 15);
  EXPECT_LE(grid.latitude.diff().max().item<double>(), 0);
  EXPECT_NEAR(grid.latitude[-1].item<double>(), -grid.latitude[0].item<double>(), 1e-12);
}

TEST(GaussianGrid, IntegratesLegendrePolynomialsExactly) {
  // Areas are half the Gaussian weights: the mean of sin^2(lat) over the sphere is 1/3, of
  // sin^4(lat) 1/5.
  const Grid grid = make_gaussian_grid("N32");
  const at::Tensor x2 = (grid.latitude * (M_PI / 180)).sin().square();

  EXPECT_NEAR(grid.area.sum().item<double>(), 1, 1e-14);
  EXPECT_NEAR((grid.area * x2).sum().item<double>(), 1. / 3, 1e-14);
  EXPECT_NEAR((grid.area * x2 * x2).sum().item<double>(), 1. / 5, 1e-14);
}

TEST(GaussianGrid, RejectsNamesThatAreNone) {
  for (const char* name : {"", "N", "O", "N33", "O0", "X32", "N32x", "O-4", "o96", "O9999999"}) {
    EXPECT_THROW(make_gaussian_grid(name), UsageError) << name;
  }
}

TEST(GaussianGrid, HasVoronoiAreasCloseToItsWeights) {
  const Grid grid = make_gaussian_grid("O32");
  const at::Tensor area = voronoi_area({grid.latitude, grid.longitude});
  const at::Tensor row = grid.latitude.diff().ne(0).cumsum(0);
  const at::Tensor rows = at::cat({at::zeros({1}, at::kLong), row});
  const at::Tensor weights = at::bincount(rows, grid.area), got = at::bincount(rows, area);

  EXPECT_NEAR(area.sum().item<double>(), 1, 1e-14);
  ASSERT_EQ(got.size(0), 64);
  // Where the rows lie regularly; the polar ones reach farther than their weights say.
  EXPECT_LT((got / weights - 1).abs().slice(0, 2, 62).max().item<double>(), 0.01);
  EXPECT_LT((got / weights - 1).abs().max().item<double>(), 0.07);
}

TEST(GaussianGrid, ServesAsAHiddenMesh) {
  const Grid data = make_gaussian_grid("O32");
  const WeatherGraph graph = build_graph(data, {.hidden_grid = "N16", .processor_neighbours = 5});
  const Grid hidden = make_gaussian_grid("N16");

  EXPECT_TRUE(at::equal(graph.hidden_latitude, hidden.latitude));
  EXPECT_EQ(graph.processor.size(), 5 * hidden.size());
  EXPECT_TRUE(graph.processor.source.ne(graph.processor.destination).all().item<bool>());
  EXPECT_EQ(graph.decoder.size(), 3 * data.size());
}

TEST(GaussianGrid, ServesAsAHiddenMeshOfARegion) {
  const Grid region = test::regional_grid();
  const WeatherGraph graph = build_graph(region, {.hidden_grid = "O96"});

  EXPECT_GT(graph.hidden_nodes(), 60);  // of 8 x 12 degrees and a margin of one
  EXPECT_GT(graph.hidden_latitude.min().item<double>(), 49);
  EXPECT_LT(graph.hidden_latitude.max().item<double>(), 59);
  EXPECT_THROW(build_graph(region, {.hidden_grid = "N16", .processor_neighbours = 100}),
               UsageError);
}

struct KnownEdge {
  double source_latitude, source_longitude, latitude, longitude;  // degrees
  std::vector<float> attributes;
};

/// The node at a position.
int64_t node_at(const Positions& nodes, double latitude, double longitude) {
  const at::Tensor turn = ((nodes.longitude - longitude + 540).remainder(360) - 180).abs();
  return ((nodes.latitude - latitude).abs() + turn).argmin().item<int64_t>();
}

void expect_edges(const EdgeSet& edges, const Positions& sources, const Positions& destinations,
                  const std::vector<KnownEdge>& known) {
  for (const KnownEdge& edge : known) {
    const int64_t source = node_at(sources, edge.source_latitude, edge.source_longitude);
    const int64_t destination = node_at(destinations, edge.latitude, edge.longitude);
    const at::Tensor found =
        (edges.source.eq(source) & edges.destination.eq(destination)).nonzero();
    ASSERT_EQ(found.size(0), 1) << source << " to " << destination;
    const at::Tensor got = edges.attributes[found.item<int64_t>()];
    // The known ones were made from positions in float32.
    EXPECT_TRUE(at::allclose(got, at::tensor(edge.attributes), 0, 2e-5)) << got;
  }
}

// From a graph that anemoi-graphs made of O32 and an icosphere of level 3.
TEST(GaussianGrid, GivesTheEdgeAttributesOfAnemoi) {
  const WeatherGraph graph = build_graph(make_gaussian_grid("O32"), {.hidden_level = 3});
  const Positions data{graph.data.latitude, graph.data.longitude};
  const Positions hidden{graph.hidden_latitude, graph.hidden_longitude};

  expect_edges(graph.encoder, data, hidden,
               {{48.835, 274.737, 45.339, -90.000, {3.682118f, 0.9273754f, 1.067634f}},
                {32.092, 201.600, 31.072, -156.163, {1.673859f, 0.1204869f, 1.409025f}},
                {-18.139, 111.000, -15.312, 108.201, {3.016718f, -1.240325f, 0.6793099f}},
                {-43.254, 300.000, -43.487, -54.110, {3.319888f, -1.161208f, -0.8071328f}}});
  expect_edges(graph.processor, hidden, hidden,
               {{30.000, -69.095, 31.283, -79.453, {1.480674f, 1.408708f, 0.1238644f}},
                {22.027, -24.445, 18.000, -31.717, {1.304535f, -3.055024e-07f, 1.414143f}},
                {-37.360, 107.355, -36.977, 117.732, {1.361281f, 1.179018f, 0.7808449f}},
                {-81.000, 148.283, -81.000, -148.283, {1.552232f, -1.261335f, 0.6394022f}}});
  expect_edges(graph.decoder, hidden, data,
               {{49.346, 158.659, 51.626, 155.000, {1.717177f, -1.311007f, -0.5302877f}},
                {7.631, 102.831, 6.977, 100.588, {1.222331f, -1.258716f, -0.6446516f}},
                {0.000, 82.071, -4.186, 84.857, {2.649507f, 0.6759367f, -1.242197f}},
                {-27.932, 120.921, -29.301, 117.692, {1.658729f, -0.8571159f, -1.124853f}}});
}

}  // namespace
}  // namespace isobar::gaussian_grid_test
