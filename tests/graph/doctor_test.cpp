// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/doctor.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "graph/meshes.hpp"

namespace isobar::doctor_test {
namespace {

bool warns(const GraphReport& report, const std::string& words) {
  return std::any_of(report.warnings.begin(), report.warnings.end(),
                     [&](const auto& warning) { return warning.find(words) != std::string::npos; });
}

TEST(GraphDoctor, FindsNothingAmissInASoundGraph) {
  const GraphOptions options{
      .hidden_level = 6, .margin_degrees = 0.7, .cutoff_factor = 0.8, .max_neighbours = 100};
  const WeatherGraph graph = build_graph(test::regional_grid(), options);
  const GraphReport report = inspect_graph(graph, options);

  EXPECT_EQ(report.warnings, std::vector<std::string>{});
  EXPECT_EQ(report.data_nodes, 1617);
  EXPECT_EQ(report.hidden_nodes, graph.hidden_nodes());
  EXPECT_EQ(report.capped_nodes, 0);
  EXPECT_EQ(report.capped_edges, 0);
}

TEST(GraphDoctor, CountsWhatTheLimitOfNeighboursCutOff) {
  const GraphOptions few{.hidden_level = 6, .max_neighbours = 4};
  const GraphOptions all{.hidden_level = 6, .max_neighbours = 1000};
  const WeatherGraph graph = build_graph(test::regional_grid(), few);
  const GraphReport report = inspect_graph(graph, few);

  EXPECT_EQ(report.uncovered, graph.uncovered);
  EXPECT_EQ(report.capped_edges,
            build_graph(test::regional_grid(), all).encoder.size() - graph.encoder.size());
  EXPECT_EQ(report.edges[0].destinations.maximum, 4);
  EXPECT_GT(report.capped_nodes, 0);
  EXPECT_TRUE(warns(report, std::to_string(graph.uncovered) + " of 1617 data nodes"));
  EXPECT_TRUE(warns(report, std::to_string(report.capped_nodes) + " of 86 hidden nodes"));
  EXPECT_TRUE(warns(report, "hidden level of 7"));
}

TEST(GraphDoctor, TellsAShortReachFromALowLimit) {
  const GraphOptions near{.hidden_level = 6, .cutoff_factor = 0.3};
  const GraphReport report = inspect_graph(build_graph(test::regional_grid(), near), near);

  EXPECT_GT(report.uncovered, 0);
  EXPECT_EQ(report.capped_nodes, 0);
  EXPECT_TRUE(warns(report, "cutoff_factor above 0.3"));
}

TEST(GraphDoctor, SaysWhichHiddenNodesHearNothing) {
  // A mesh much finer than the grid.
  const GraphOptions fine{.hidden_level = 5};
  const GraphReport report = inspect_graph(build_graph(test::global_mesh().data, fine), fine);

  EXPECT_GT(report.edges[0].destinations.without, 0);
  EXPECT_EQ(report.edges[0].destinations.minimum, 0);
  EXPECT_TRUE(warns(report, "have no data node within reach; take a coarser hidden mesh"));

  const GraphOptions wide{.hidden_level = 6, .margin_degrees = 5};
  EXPECT_TRUE(warns(inspect_graph(build_graph(test::regional_grid(), wide), wide),
                    "take a narrower margin_degrees"));
}

TEST(GraphDoctor, CountsDegreesOfBothEnds) {
  const WeatherGraph graph = test::global_mesh();
  const GraphReport report = inspect_graph(graph, {.hidden_level = 3, .max_neighbours = 16});
  const DegreeReport& decoder = report.edges[2].destinations;

  EXPECT_EQ(report.edges[2].name, "decoder");
  EXPECT_EQ(report.edges[2].edges, 3 * graph.data_nodes());
  EXPECT_EQ(decoder.minimum, 3);
  EXPECT_EQ(decoder.median, 3);
  EXPECT_EQ(decoder.maximum, 3);
  // Corners of the icosahedron have five neighbours a level, its other nodes six, and those of
  // level 1 are neighbours at all three.
  EXPECT_EQ(report.edges[1].sources.minimum, 6);
  EXPECT_EQ(report.edges[1].sources.maximum, 18);
  EXPECT_EQ(report.edges[1].sources.median, 6);
}

TEST(GraphDoctor, CountsByRankWhatShardsHold) {
  const WeatherGraph graph = test::global_mesh();
  for (const int ranks : {1, 3, 4}) {
    const GraphReport report = inspect_graph(graph, {.hidden_level = 3}, ranks);
    ASSERT_EQ(report.cuts.size(), 2);
    for (const PartitionReport& cut : report.cuts) {
      SCOPED_TRACE(to_string(cut.method) + " " + std::to_string(ranks));
      ASSERT_EQ(cut.ranks.size(), ranks);
      const Partition partition = make_partition(graph, ranks, cut.method);
      for (int rank = 0; rank < ranks; ++rank) {
        const GraphShard shard = make_shard(graph, partition, rank);
        EXPECT_EQ(cut.ranks[rank].data_nodes, shard.data_rows.size(0));
        EXPECT_EQ(cut.ranks[rank].hidden_nodes, shard.hidden_rows.size(0));
        EXPECT_EQ(cut.ranks[rank].encoder_edges, shard.encoder.edges.size());
        EXPECT_EQ(cut.ranks[rank].processor_edges, shard.processor.edges.size());
        EXPECT_EQ(cut.ranks[rank].decoder_edges, shard.decoder.edges.size());
        EXPECT_EQ(cut.ranks[rank].encoder_halo, shard.encoder.halo.halo());
        EXPECT_EQ(cut.ranks[rank].processor_halo, shard.processor.halo.halo());
        EXPECT_EQ(cut.ranks[rank].decoder_halo, shard.decoder.halo.halo());
      }
    }
  }
}

TEST(GraphDoctor, ComparesHalosWithAllGathers) {
  const WeatherGraph graph = test::global_mesh();
  const GraphReport alone = inspect_graph(graph, {.hidden_level = 3}, 1);
  const GraphReport four = inspect_graph(graph, {.hidden_level = 3}, 4);
  int64_t moved = 0;
  for (const RankReport& rank : four.cuts[0].ranks) {
    moved += rank.encoder_halo + rank.processor_halo + rank.decoder_halo;
  }

  EXPECT_EQ(alone.cuts[0].gathered_share, 0);
  EXPECT_EQ(alone.cuts[0].imbalance, 1);
  EXPECT_DOUBLE_EQ(four.cuts[0].gathered_share,
                   static_cast<double>(moved) / (3.0 * (1458 + 642 + 642)));
}

TEST(GraphDoctor, SaysWhenRanksAreTooMany) {
  const GraphReport report = inspect_graph(test::global_mesh(), {.hidden_level = 3}, 64);

  EXPECT_TRUE(warns(report, "take fewer ranks"));
  EXPECT_TRUE(warns(report, "take the partition bisection"));
  EXPECT_THROW(inspect_graph(test::global_mesh(), {.hidden_level = 3}, 643), UsageError);
}

}  // namespace
}  // namespace isobar::doctor_test
