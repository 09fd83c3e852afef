// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/thread_world.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <isobar/graph/halo_exchange.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <string>

namespace isobar::known_graphs_test {
namespace {

/// Edge counts that were counted with scipy's cKDTree over the same grids.
struct Known {
  const char* grid;
  int64_t level;  // of the hidden icosphere
  int64_t encoder, uncapped, processor, decoder, uncovered;
};

void expect_known(const Known& known) {
  SCOPED_TRACE(std::string(known.grid) + "/" + std::to_string(known.level));
  const WeatherGraph graph =
      build_graph(make_gaussian_grid(known.grid), {.hidden_level = known.level});
  EXPECT_EQ(graph.encoder.size(), known.encoder);
  EXPECT_EQ(graph.processor.size(), known.processor);
  EXPECT_EQ(graph.decoder.size(), known.decoder);
  EXPECT_EQ(graph.uncovered, known.uncovered);
  const EdgeSet uncapped = cutoff_edges({graph.data.latitude, graph.data.longitude},
                                        {graph.hidden_latitude, graph.hidden_longitude},
                                        {.max_neighbours = std::numeric_limits<int64_t>::max()});
  EXPECT_EQ(uncapped.size(), known.uncapped);
}

TEST(KnownGraphs, OfSmallGridsHaveTheirEdges) {
  for (const Known& known : {Known{"N16", 2, 2036, 2036, 1200, 5064, 16},
                             {"N16", 3, 2526, 2526, 5040, 5064, 0},
                             {"N32", 3, 8870, 8870, 5040, 18342, 0},
                             {"O32", 3, 7568, 7568, 5040, 15744, 0},
                             {"O32", 4, 8100, 8100, 20400, 15744, 0},
                             {"N48", 4, 20290, 20290, 20400, 39840, 0}}) {
    expect_known(known);
  }
}

TEST(KnownGraphs, OfLevel5HaveTheirEdges) {
  for (const Known& known : {Known{"N80", 5, 54858, 54858, 81840, 107154, 0},
                             {"O96", 5, 62980, 62980, 81840, 120960, 0},
                             {"N160", 5, 216400, 216400, 81840, 415038, 0}}) {
    expect_known(known);
  }
}

// Level 5 is too coarse for it: the limit of 64 neighbours bites at every hidden node.
TEST(KnownGraphs, OfN320AndLevel5HasItsEdges) {
  expect_known({"N320", 5, 655488, 850610, 81840, 1626240, 3230});
}

TEST(KnownGraphs, OfN320AndLevel6HasItsEdges) {
  expect_known({"N320", 6, 852824, 852824, 327600, 1626240, 0});
}

TEST(KnownGraphs, OfN320AndAHiddenGridHasItsEdges) {
  const WeatherGraph graph =
      build_graph(make_gaussian_grid("N320"), {.hidden_grid = "O96", .processor_neighbours = 6});

  EXPECT_EQ(graph.hidden_nodes(), 40320);
  EXPECT_EQ(graph.encoder.size(), 748358);
  EXPECT_EQ(graph.processor.size(), 6 * 40320);
  EXPECT_EQ(graph.decoder.size(), 1626240);
  EXPECT_EQ(graph.uncovered, 3064);
}

/// The most rows that a rank receives in one stage.
struct Halos {
  int64_t encoder = 0, processor = 0, decoder = 0;
};

/// Sends rows of one column through a stage's exchange.
int64_t exchanged(const EdgeShard& stage, Communicator& comm) {
  HaloExchange exchange(stage.halo, comm);
  const auto rows = at::zeros({1, exchange.plan().owned + exchange.plan().halo(), 1});
  rows.narrow(1, 0, exchange.plan().owned).fill_(1);
  exchange.start(rows).wait();
  EXPECT_EQ(rows.sum().item<double>(), static_cast<double>(rows.numel())) << "a row did not come";
  return exchange.received_rows();
}

Halos largest_halos(const WeatherGraph& graph, int ranks, PartitionMethod method) {
  const Partition partition = make_partition(graph, ranks, method);
  Halos largest;
  std::mutex mutex;
  run_ranks(ranks, [&](Communicator& comm) {
    const GraphShard shard = make_shard(graph, partition, comm.rank());
    const Halos own{exchanged(shard.encoder, comm), exchanged(shard.processor, comm),
                    exchanged(shard.decoder, comm)};
    const std::lock_guard lock(mutex);
    largest = {std::max(largest.encoder, own.encoder), std::max(largest.processor, own.processor),
               std::max(largest.decoder, own.decoder)};
  });
  return largest;
}

// All-gathers would bring a rank 406,560 data rows and 30,721 hidden ones.
TEST(KnownGraphs, OfN320HasSmallHalosOnFourRanks) {
  const WeatherGraph graph = build_graph(make_gaussian_grid("N320"), {.hidden_level = 6});
  const Halos bands = largest_halos(graph, 4, PartitionMethod::bands);
  const Halos bisection = largest_halos(graph, 4, PartitionMethod::bisection);

  EXPECT_LE(bands.encoder, 2700);
  EXPECT_LE(bands.processor, 1300);
  EXPECT_LE(bands.decoder, 700);
  EXPECT_LT(bisection.encoder, 0.5 * bands.encoder);
  EXPECT_LT(bisection.processor, 0.6 * bands.processor);
  EXPECT_LT(bisection.decoder, 0.5 * bands.decoder);
}

}  // namespace
}  // namespace isobar::known_graphs_test
