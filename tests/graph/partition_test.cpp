// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/partition.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graph/meshes.hpp"
#include "graph/sphere.hpp"

namespace isobar::partition_test {
namespace {

const WeatherGraph& globe() {
  static const WeatherGraph graph = test::global_mesh();
  return graph;
}

void expect_even(const at::Tensor& owner, int ranks) {
  const at::Tensor counts = at::bincount(owner, {}, ranks);
  EXPECT_EQ(counts.size(0), ranks);
  EXPECT_LE(counts.max().item<int64_t>() - counts.min().item<int64_t>(), 1) << counts;
}

TEST(Partition, IsEvenForAnyNumberOfRanks) {
  for (const auto method : {PartitionMethod::bands, PartitionMethod::bisection}) {
    for (const int ranks : {1, 2, 3, 4, 5, 7, 8, 642}) {
      SCOPED_TRACE(ranks);
      const Partition partition = make_partition(globe(), ranks, method);
      EXPECT_EQ(partition.ranks, ranks);
      EXPECT_EQ(partition.data.size(0), globe().data_nodes());
      EXPECT_EQ(partition.hidden.size(0), globe().hidden_nodes());
      expect_even(partition.data, ranks);
      expect_even(partition.hidden, ranks);
    }
  }
}

TEST(Partition, CutsBandsInTheOrderOfTheNodes) {
  const Partition partition = make_partition(globe(), 5);  // 642 = 5 * 128 + 2

  EXPECT_TRUE(at::equal(partition.hidden,
                        at::arange(5).repeat_interleave(at::tensor({129, 129, 128, 128, 128}))));
}

TEST(Partition, BisectsTheGlobeAtTheEquatorAndThenAcross) {
  const Partition partition = make_partition(globe(), 4, PartitionMethod::bisection);
  const auto points = unit_vectors(globe().hidden_latitude, globe().hidden_longitude);

  for (size_t i = 0; i < points.size(); ++i) {
    const int64_t owner = partition.hidden[static_cast<int64_t>(i)].item<int64_t>();
    // Nodes on a plane are shared out by index; the rest follows its side.
    if (std::abs(points[i][2]) > 1e-6) {
      EXPECT_EQ(owner<2, points[i][2]> 0) << i;
    }
    if (std::abs(points[i][0]) > 0.05) {
      EXPECT_EQ(owner % 2 == 0, points[i][0] > 0) << i;
    }
  }
}

TEST(Partition, BisectsARegionAcrossItsLongSide) {
  // 4 degrees by 64 on the equator, so that both halves lie beside each other.
  const WeatherGraph strip =
      build_graph(make_latlon_grid(test::axis(2, -1, 5), test::axis(-32, 1, 65)),
                  {.hidden_level = 4, .margin_degrees = 2});
  const Partition partition = make_partition(strip, 2, PartitionMethod::bisection);
  // Across y: the first half is the eastern one.
  const at::Tensor east = strip.data.longitude > 0.5;
  const at::Tensor west = strip.data.longitude < -0.5;

  EXPECT_TRUE(partition.data.index({east}).eq(0).all().item<bool>());
  EXPECT_TRUE(partition.data.index({west}).eq(1).all().item<bool>());
}

TEST(Partition, TakesItsMethodByName) {
  EXPECT_EQ(parse_partition_method("bands"), PartitionMethod::bands);
  EXPECT_EQ(parse_partition_method("bisection"), PartitionMethod::bisection);
  EXPECT_THROW(parse_partition_method("metis"), UsageError);
}

TEST(Partition, WantsANodeOfEachKindForEveryRank) {
  EXPECT_THROW(make_partition(globe(), 0), UsageError);
  EXPECT_THROW(make_partition(globe(), 643), UsageError);
}

}  // namespace
}  // namespace isobar::partition_test
