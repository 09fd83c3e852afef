// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/icosphere.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "graph/axes.hpp"
#include "graph/sphere.hpp"

namespace isobar::icosphere_test {
namespace {

std::set<std::pair<int64_t, int64_t>> pairs(const at::Tensor& edges) {
  std::set<std::pair<int64_t, int64_t>> result;
  for (int64_t i = 0; i < edges.size(1); ++i) {
    result.emplace(edges[0][i].item<int64_t>(), edges[1][i].item<int64_t>());
  }
  return result;
}

/// [E] chords of the edges.
at::Tensor chords(const Icosphere& mesh, const at::Tensor& edges) {
  const auto points = unit_vectors(mesh.latitude, mesh.longitude);
  const at::Tensor xyz =
      at::from_blob(const_cast<double*>(points[0].data()), {mesh.size(), 3}, at::kDouble);
  return (xyz.index_select(0, edges[0]) - xyz.index_select(0, edges[1])).norm(2, 1);
}

TEST(Icosphere, HasTheNodesAndEdgesOfItsLevels) {
  for (const int64_t level : {0, 1, 2, 3, 4}) {
    const Icosphere mesh = make_icosphere({.level = level, .min_level = 0});
    EXPECT_EQ(mesh.size(), 10 * (1 << 2 * level) + 2);
    EXPECT_EQ(mesh.level(), level);
    for (int64_t l = 0; l <= level; ++l) {
      EXPECT_EQ(mesh.edges[l].size(1), 60 * (1 << 2 * l));
    }
  }
}

TEST(Icosphere, OrdersNodesFromNorthToSouthAndEastToWest) {
  const Icosphere mesh = make_icosphere({.level = 3});

  EXPECT_EQ(mesh.latitude[0].item<double>(), 90);
  EXPECT_EQ(mesh.longitude[0].item<double>(), 0);
  EXPECT_EQ(mesh.latitude[641].item<double>(), -90);
  EXPECT_LT(mesh.latitude.diff().max().item<double>(), 1e-9);
  EXPECT_NEAR(mesh.longitude[1].item<double>(), 90, 1e-12);
  EXPECT_NEAR(mesh.longitude[2].item<double>(), -90, 1e-12);
}

TEST(Icosphere, HasEveryEdgeOnceInBothDirections) {
  const Icosphere mesh = make_icosphere({.level = 3});
  std::set<std::pair<int64_t, int64_t>> all;

  for (const at::Tensor& edges : mesh.edges) {
    all.merge(pairs(edges));
  }

  EXPECT_EQ(all.size(), 240u + 960u + 3840u);
  for (const auto& [source, destination] : all) {
    EXPECT_TRUE(all.contains({destination, source}));
  }
}

TEST(Icosphere, SpansEachLevelWithItsOwnEdgeLengths) {
  const Icosphere mesh = make_icosphere({.level = 4});

  // The icosahedron's side is 63.4 degrees; splitting halves it, unevenly by up to a fifth.
  for (size_t i = 0; i < mesh.edges.size(); ++i) {
    const at::Tensor degrees = (chords(mesh, mesh.edges[i]) / 2).asin() * 2 * (180 / M_PI);
    const double halved = 63.435 / std::pow(2.0, static_cast<double>(i + 1));
    EXPECT_GT(degrees.min().item<double>(), 0.83 * halved);
    EXPECT_LT(degrees.max().item<double>(), 1.2 * halved);
  }
}

TEST(Icosphere, GivesNodesOfMeshEdgesOfTheCoarsestLevelAskedFor) {
  const Icosphere mesh = make_icosphere({.level = 3, .min_level = 2});

  ASSERT_EQ(mesh.edges.size(), 2u);
  EXPECT_EQ(mesh.edges[0].size(1), 960);
  EXPECT_EQ(mesh.level(), 3);
}

TEST(Icosphere, RejectsLevelsThatAreNone) {
  EXPECT_THROW(make_icosphere({.level = -1, .min_level = 0}), UsageError);
  EXPECT_THROW(make_icosphere({.level = 40}), UsageError);
  EXPECT_THROW(make_icosphere({.level = 2, .min_level = 3}), UsageError);
}

const Grid& british_isles() {
  static const Grid grid = make_latlon_grid(test::axis(58, -0.25, 33), test::axis(-10, 0.25, 49));
  return grid;
}

TEST(RestrictTo, KeepsExactlyTheNodesWithinTheMargin) {
  const Icosphere whole = make_icosphere({.level = 5});
  const Icosphere part = restrict_to(whole, british_isles(), 3.0);
  const auto nodes = unit_vectors(whole.latitude, whole.longitude);
  const auto points = unit_vectors(british_isles().latitude, british_isles().longitude);

  int64_t near = 0;
  for (const auto& node : nodes) {
    double cosine = -1;
    for (const auto& point : points) {
      cosine = std::max(cosine, node[0] * point[0] + node[1] * point[1] + node[2] * point[2]);
    }
    near += std::acos(std::min(cosine, 1.0)) <= 3.0 * kRadiansPerDegree;
  }

  EXPECT_EQ(part.size(), near);
  EXPECT_GT(near, 20);
}

TEST(RestrictTo, KeepsEdgesAsLongAsTheyWere) {
  const Icosphere whole = make_icosphere({.level = 6});
  const Icosphere part = restrict_to(whole, british_isles(), 1.0);

  ASSERT_EQ(part.edges.size(), whole.edges.size());
  const at::Tensor finest = chords(part, part.edges.back());
  EXPECT_GT(finest.numel(), 6 * part.size() / 2);
  EXPECT_LE(finest.max().item<double>(), chords(whole, whole.edges.back()).max().item<double>());
  EXPECT_EQ(pairs(part.edges.back()).size(), static_cast<size_t>(finest.numel()));
}

/// The message of the UsageError that restricting a mesh gives, or "none".
std::string refusal(int64_t level, const Grid& region, double margin_degrees) {
  try {
    restrict_to(make_icosphere({.level = level, .min_level = 0}), region, margin_degrees);
    return "none";
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(RestrictTo, SaysWhatToRaiseWhenTooLittleIsLeft) {
  // A corner of the icosahedron lies at 58.3 N, 90 E.
  const Grid corner = make_latlon_grid({58, 59}, {90, 91});
  const std::string none = refusal(0, british_isles(), 0), alone = refusal(0, corner, 2);

  EXPECT_NE(none.find("has 0 nodes, 0 of them"), std::string::npos) << none;
  EXPECT_NE(alone.find("has 1 nodes, 1 of them without an edge"), std::string::npos) << alone;
  EXPECT_NE(alone.find("raise the hidden level (hidden_level) or the margin"), std::string::npos)
      << alone;
}

}  // namespace
}  // namespace isobar::icosphere_test
