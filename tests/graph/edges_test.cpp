// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/edges.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numbers>
#include <vector>

#include "graph/axes.hpp"
#include "graph/sphere.hpp"

namespace isobar::edges_test {
namespace {

Positions at_degrees(std::vector<double> latitude, std::vector<double> longitude) {
  return {to_tensor(latitude), to_tensor(longitude)};
}

Positions positions(const Icosphere& mesh) { return {mesh.latitude, mesh.longitude}; }

Positions latlon(int rows, int columns) {
  const Grid grid = make_latlon_grid(test::axis(85, -170.0 / (rows - 1), rows),
                                     test::axis(0, 360.0 / columns, columns));
  return {grid.latitude, grid.longitude};
}

/// [from, to] squared chords.
at::Tensor distances(const Positions& from, const Positions& to) {
  const auto a = unit_vectors(from.latitude, from.longitude);
  const auto b = unit_vectors(to.latitude, to.longitude);
  at::Tensor result =
      at::empty({static_cast<int64_t>(a.size()), static_cast<int64_t>(b.size())}, at::kDouble);
  auto out = result.accessor<double, 2>();
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < b.size(); ++j) {
      const double x = a[i][0] - b[j][0], y = a[i][1] - b[j][1], z = a[i][2] - b[j][2];
      out[i][j] = x * x + y * y + z * z;
    }
  }
  return result;
}

std::vector<int64_t> sources_of(const EdgeSet& edges, int64_t destination) {
  const at::Tensor found =
      edges.source.index_select(0, edges.destination.eq(destination).nonzero().flatten());
  return {found.const_data_ptr<int64_t>(), found.const_data_ptr<int64_t>() + found.numel()};
}

void expect_sorted(const EdgeSet& edges) {
  const at::Tensor key = edges.destination * edges.sources + edges.source;
  EXPECT_GT(key.diff().min().item<int64_t>(), 0) << "edges repeat or are out of order";
}

TEST(NearestEdges, AreAsShortAsThoseOfASearchOfAllPairs) {
  const Positions sources = positions(make_icosphere({.level = 2}));
  const Positions destinations = latlon(9, 17);
  const EdgeSet edges = nearest_edges(sources, destinations, 3);
  const at::Tensor distance = distances(destinations, sources);
  const at::Tensor wanted = std::get<0>(distance.sort(1)).slice(1, 0, 3);
  const at::Tensor got = distance.index({edges.destination, edges.source}).view({-1, 3});

  expect_sorted(edges);
  EXPECT_TRUE(at::equal(edges.destination, at::arange(9 * 17).repeat_interleave(3)));
  // Lengths, not indices: this mesh and grid share symmetries, so that some neighbours tie.
  EXPECT_TRUE(at::allclose(std::get<0>(got.sort(1)), wanted, 0, 1e-15));
}

TEST(CutoffEdges, AgreeWithASearchOfAllPairs) {
  const Positions hidden = positions(make_icosphere({.level = 2}));
  const Positions data = latlon(40, 60);
  const EdgeSet edges = cutoff_edges(data, hidden, {.factor = 0.6, .max_neighbours = 1000});
  const at::Tensor gaps = std::get<0>(distances(hidden, hidden).fill_diagonal_(10).min(1));
  const at::Tensor within = distances(hidden, data) < 0.36 * gaps.max();

  expect_sorted(edges);
  EXPECT_EQ(edges.size(), within.sum().item<int64_t>());
  EXPECT_TRUE(within.index({edges.destination, edges.source}).all().item<bool>());
}

TEST(CutoffEdges, ReachAsFarAsTheLoneliestNodeAsks) {
  // The last node is 30 degrees from its nearest other one: a chord of 0.6 of that is 17.9.
  const Positions hidden = at_degrees({0, 0, 0}, {0, 10, 40});
  const Positions data = at_degrees({0, 0, 0}, {-17.8, 57.8, 58});
  const EdgeSet edges = cutoff_edges(data, hidden);

  EXPECT_EQ(sources_of(edges, 0), std::vector<int64_t>{0});
  EXPECT_EQ(sources_of(edges, 1), std::vector<int64_t>{});
  EXPECT_EQ(sources_of(edges, 2), std::vector<int64_t>{1});
}

TEST(CutoffEdges, KeepTheNearestWhereThereAreTooMany) {
  const Positions hidden = positions(make_icosphere({.level = 1}));
  const Positions data = latlon(40, 61);
  const EdgeSet all = cutoff_edges(data, hidden, {.max_neighbours = 10000});
  const EdgeSet few = cutoff_edges(data, hidden, {.max_neighbours = 5});
  const at::Tensor distance = distances(hidden, data);

  EXPECT_EQ(few.size(), 5 * 42);
  for (const int64_t destination : {0, 20, 41}) {
    double farthest = 0;
    for (int64_t source : sources_of(few, destination)) {
      farthest = std::max(farthest, distance[destination][source].item<double>());
    }
    int64_t nearer = 0;
    for (int64_t source : sources_of(all, destination)) {
      nearer += distance[destination][source].item<double>() < farthest;
    }
    EXPECT_LT(nearer, 5);
  }
}

TEST(MultiScaleEdges, HoldTheEdgesOfAllLevelsOnce) {
  const EdgeSet edges = multi_scale_edges(make_icosphere({.level = 3}));

  expect_sorted(edges);
  EXPECT_EQ(edges.size(), 5040);
  EXPECT_EQ(edges.sources, 642);
  EXPECT_EQ(edges.destinations, 642);
}

TEST(EdgeAttributes, AreScaledToUnitDeviation) {
  const EdgeSet edges = multi_scale_edges(make_icosphere({.level = 2}));
  const at::Tensor attributes = edges.attributes.to(at::kDouble);

  EXPECT_EQ(edges.attributes.scalar_type(), at::kFloat);
  EXPECT_NEAR(attributes.select(1, 0).std().item<double>(), 1, 1e-6);
  EXPECT_NEAR(attributes.slice(1, 1).std().item<double>(), 1, 1e-6);
  EXPECT_NE(attributes.select(1, 1).std().item<double>(), 1);
}

TEST(EdgeAttributes, PointFromTheDestinationTurnedToThePole) {
  // One source in each direction from a destination on the equator at 90 E, where tilting it to
  // the pole keeps the x axis and takes the south to y.
  const Positions destination = at_degrees({0}, {90});
  const Positions sources = at_degrees({0, 0, 10, -10}, {100, 80, 90, 90});
  const at::Tensor got = nearest_edges(sources, destination, 4).attributes.slice(1, 1);
  const at::Tensor wanted = at::tensor({-1., 0., 1., 0., 0., -1., 0., 1.}, at::kFloat).view({4, 2});

  EXPECT_TRUE(at::allclose(got, wanted / wanted.std(), 0, 1e-6)) << got;
}

TEST(EdgeAttributes, TakeTheMeridianOfADestinationAtThePole) {
  const Positions poles = at_degrees({90, -90}, {0, 0});
  const Positions sources = at_degrees({80, -80}, {90, 90});
  const at::Tensor got = nearest_edges(sources, poles, 1).attributes.slice(1, 1);
  const at::Tensor wanted = at::tensor({0., 1., 0., 1.}, at::kFloat).view({2, 2});

  EXPECT_TRUE(at::allclose(got, wanted / wanted.std(), 0, 1e-6)) << got;
}

TEST(EdgeAttributes, HaveNoDirectionBetweenCoincidentNodes) {
  const Positions nodes = at_degrees({90, 20, 33.3}, {0, 10, -120});
  const EdgeSet edges = nearest_edges(nodes, nodes, 1);

  EXPECT_EQ(edges.attributes.abs().max().item<float>(), 0);
}

TEST(NearestOtherEdges, AreTheNearestWithoutTheNodeItself) {
  const Positions nodes = latlon(9, 17);
  const EdgeSet edges = nearest_other_edges(nodes, 4);
  const at::Tensor distance = distances(nodes, nodes).fill_diagonal_(10);
  const at::Tensor wanted = std::get<0>(distance.sort(1)).slice(1, 0, 4);
  const at::Tensor got = distance.index({edges.destination, edges.source}).view({-1, 4});

  expect_sorted(edges);
  EXPECT_TRUE(at::allclose(std::get<0>(got.sort(1)), wanted, 0, 1e-15));
}

TEST(NearestOtherEdges, LeadBetweenCoincidentNodesButToNoneItself) {
  const EdgeSet edges = nearest_other_edges(at_degrees({90, 90, 90, 90}, {0, 90, 180, 270}), 2);

  EXPECT_EQ(edges.size(), 8);
  EXPECT_TRUE(edges.source.ne(edges.destination).all().item<bool>());
}

TEST(NearestOtherEdges, RejectMoreNeighboursThanThereAreOthers) {
  EXPECT_THROW(nearest_other_edges(at_degrees({0, 1}, {0, 1}), 2), UsageError);
}

TEST(NearestEdges, RejectMoreNeighboursThanThereAre) {
  EXPECT_THROW(nearest_edges(at_degrees({0, 1}, {0, 1}), at_degrees({0}, {0}), 3), UsageError);
}

}  // namespace
}  // namespace isobar::edges_test
