// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "graph/meshes.hpp"

namespace isobar::graph_shard_test {
namespace {

/// An edge set of the graph and where its parts are in a shard.
struct Stage {
  const char* name;
  EdgeSet WeatherGraph::*whole;
  EdgeShard GraphShard::*part;
  at::Tensor GraphShard::*sources;       // own rows
  at::Tensor GraphShard::*destinations;  // own rows
  at::Tensor Partition::*source_owner;
  at::Tensor Partition::*destination_owner;
};

const Stage kStages[] = {
    {"encoder", &WeatherGraph::encoder, &GraphShard::encoder, &GraphShard::data_rows,
     &GraphShard::hidden_rows, &Partition::data, &Partition::hidden},
    {"processor", &WeatherGraph::processor, &GraphShard::processor, &GraphShard::hidden_rows,
     &GraphShard::hidden_rows, &Partition::hidden, &Partition::hidden},
    {"decoder", &WeatherGraph::decoder, &GraphShard::decoder, &GraphShard::hidden_rows,
     &GraphShard::data_rows, &Partition::hidden, &Partition::data}};

/// A graph cut up for all ranks.
struct Cut {
  Cut(const WeatherGraph& whole, int ranks, PartitionMethod method)
      : graph(whole), partition(make_partition(whole, ranks, method)) {
    for (int rank = 0; rank < ranks; ++rank) shards.push_back(make_shard(whole, partition, rank));
  }

  const WeatherGraph& graph;
  Partition partition;
  std::vector<GraphShard> shards;
};

void for_each_cut(const std::function<void(const Cut&)>& check) {
  static const WeatherGraph graphs[] = {test::global_mesh(), test::regional_mesh()};
  for (const WeatherGraph& graph : graphs) {
    for (const auto method : {PartitionMethod::bands, PartitionMethod::bisection}) {
      for (const int ranks : {1, 2, 3, 4, 8}) {
        SCOPED_TRACE(graph.data.name + ", ranks: " + std::to_string(ranks) + ", method " +
                     std::to_string(static_cast<int>(method)));
        check(Cut(graph, ranks, method));
      }
    }
  }
}

void for_each_stage(const std::function<void(const Cut&, const Stage&)>& check) {
  for_each_cut([&](const Cut& cut) {
    for (const Stage& stage : kStages) {
      SCOPED_TRACE(stage.name);
      check(cut, stage);
    }
  });
}

/// The nodes that `from` sends to `to`, numbered in the whole graph.
at::Tensor sent(const Cut& cut, const Stage& stage, size_t from, size_t to) {
  const HaloPlan& plan = (cut.shards[from].*stage.part).halo;
  const int64_t begin =
      std::accumulate(plan.send_counts.begin(), plan.send_counts.begin() + to, int64_t{0});
  const at::Tensor rows = plan.send_rows.slice(0, begin, begin + plan.send_counts[to]);
  return (cut.shards[from].*stage.sources).index_select(0, rows);
}

/// What a rank holds of the sources once every peer has sent: its own and its halo.
at::Tensor held(const Cut& cut, const Stage& stage, size_t rank) {
  std::vector<at::Tensor> parts{cut.shards[rank].*stage.sources};
  for (size_t peer = 0; peer < cut.shards.size(); ++peer) {
    parts.push_back(sent(cut, stage, peer, rank));
  }
  return at::cat(parts);
}

void expect_each_once(const std::vector<at::Tensor>& parts, int64_t size) {
  EXPECT_TRUE(at::equal(std::get<0>(at::cat(parts).sort()), at::arange(size)));
}

TEST(GraphShard, OwnsEveryNodeOnce) {
  for_each_cut([](const Cut& cut) {
    std::vector<at::Tensor> data, hidden;
    for (const GraphShard& shard : cut.shards) {
      data.push_back(shard.data_rows);
      hidden.push_back(shard.hidden_rows);
    }
    expect_each_once(data, cut.graph.data_nodes());
    expect_each_once(hidden, cut.graph.hidden_nodes());
  });
}

TEST(GraphShard, HoldsEveryEdgeOnceWithItsEndsAndAttributes) {
  for_each_stage([](const Cut& cut, const Stage& stage) {
    const EdgeSet& whole = cut.graph.*stage.whole;
    std::vector<at::Tensor> rows;
    for (size_t rank = 0; rank < cut.shards.size(); ++rank) {
      const EdgeShard& part = cut.shards[rank].*stage.part;
      const at::Tensor sources = held(cut, stage, rank);
      rows.push_back(part.rows);
      ASSERT_EQ(part.edges.sources, sources.size(0));
      ASSERT_EQ(part.edges.destinations, (cut.shards[rank].*stage.destinations).size(0));
      EXPECT_TRUE(at::equal(sources.index_select(0, part.edges.source),
                            whole.source.index_select(0, part.rows)));
      EXPECT_TRUE(
          at::equal((cut.shards[rank].*stage.destinations).index_select(0, part.edges.destination),
                    whole.destination.index_select(0, part.rows)));
      EXPECT_TRUE(at::equal(part.edges.attributes, whole.attributes.index_select(0, part.rows)));
    }
    expect_each_once(rows, whole.size());
  });
}

TEST(GraphShard, KeepsTheOrderOfTheEdgesOfADestination) {
  for_each_stage([](const Cut& cut, const Stage& stage) {
    for (const GraphShard& shard : cut.shards) {
      const EdgeShard& part = shard.*stage.part;
      const at::Tensor step = part.edges.destination.diff();
      EXPECT_TRUE((step.gt(0) | (step.eq(0) & part.rows.diff().gt(0))).all().item<bool>());
    }
  });
}

TEST(GraphShard, ReceivesWhatItsEdgesReadOnceAndInOrder) {
  for_each_stage([](const Cut& cut, const Stage& stage) {
    const EdgeSet& whole = cut.graph.*stage.whole;
    const at::Tensor from = (cut.partition.*stage.source_owner).index_select(0, whole.source);
    const at::Tensor to =
        (cut.partition.*stage.destination_owner).index_select(0, whole.destination);
    for (size_t rank = 0; rank < cut.shards.size(); ++rank) {
      const HaloPlan& plan = (cut.shards[rank].*stage.part).halo;
      EXPECT_EQ(plan.owned, (cut.shards[rank].*stage.sources).size(0));
      EXPECT_EQ(plan.owned + plan.halo(), (cut.shards[rank].*stage.part).edges.sources);
      for (size_t peer = 0; peer < cut.shards.size(); ++peer) {
        const at::Tensor read =
            from.eq(static_cast<int64_t>(peer)) & to.eq(static_cast<int64_t>(rank));
        const at::Tensor wanted =
            peer == rank ? at::empty({0}, at::kLong)
                         : std::get<0>(at::_unique(whole.source.masked_select(read), true));
        EXPECT_TRUE(at::equal(sent(cut, stage, peer, rank), wanted));
        EXPECT_EQ(plan.receive_counts[peer], wanted.size(0));
      }
    }
  });
}

/// Own nodes of the whole graph, and which of them have a source elsewhere.
at::Tensor at_border(const Cut& cut, const std::vector<const Stage*>& stages) {
  at::Tensor border = at::zeros({(cut.partition.*stages[0]->destination_owner).size(0)}, at::kBool);
  for (const Stage* stage : stages) {
    const EdgeSet& whole = cut.graph.*stage->whole;
    const at::Tensor from = (cut.partition.*stage->source_owner).index_select(0, whole.source);
    const at::Tensor to =
        (cut.partition.*stage->destination_owner).index_select(0, whole.destination);
    border.index_put_({whole.destination.masked_select(from.ne(to))},
                      at::scalar_tensor(true, at::kBool));
  }
  return border;
}

void expect_interior_first(const at::Tensor& rows, const at::Tensor& border) {
  const at::Tensor group = border.index_select(0, rows).to(at::kLong).diff();
  EXPECT_TRUE((group.gt(0) | (group.eq(0) & rows.diff().gt(0))).all().item<bool>());
}

TEST(GraphShard, NumbersNodesWithoutRemoteSourcesFirst) {
  for_each_cut([](const Cut& cut) {
    const at::Tensor data = at_border(cut, {&kStages[2]});
    const at::Tensor hidden = at_border(cut, {&kStages[0], &kStages[1]});
    for (const GraphShard& shard : cut.shards) {
      expect_interior_first(shard.data_rows, data);
      expect_interior_first(shard.hidden_rows, hidden);
    }
  });
}

TEST(GraphShard, SaysHowManyDestinationsNeedNoHalo) {
  for_each_stage([](const Cut& cut, const Stage& stage) {
    for (const GraphShard& shard : cut.shards) {
      const EdgeShard& part = shard.*stage.part;
      const at::Tensor first =
          part.edges.destination.masked_select(part.edges.source.ge(part.halo.owned));
      const int64_t wanted =
          first.numel() > 0 ? first.min().item<int64_t>() : part.edges.destinations;
      EXPECT_EQ(part.interior, wanted);
    }
  });
}

TEST(GraphShard, CarriesAttributesOfItsNodesAndTheSizesOfTheWhole) {
  for_each_cut([](const Cut& cut) {
    const at::Tensor data = node_attributes(cut.graph.data.latitude, cut.graph.data.longitude);
    const at::Tensor hidden =
        node_attributes(cut.graph.hidden_latitude, cut.graph.hidden_longitude);
    for (const GraphShard& shard : cut.shards) {
      EXPECT_TRUE(at::equal(shard.data_attributes, data.index_select(0, shard.data_rows)));
      EXPECT_TRUE(at::equal(shard.hidden_attributes, hidden.index_select(0, shard.hidden_rows)));
      EXPECT_EQ(shard.data_nodes, cut.graph.data_nodes());
      EXPECT_EQ(shard.hidden_nodes, cut.graph.hidden_nodes());
      EXPECT_EQ(shard.encoder_edges, cut.graph.encoder.size());
      EXPECT_EQ(shard.processor_edges, cut.graph.processor.size());
      EXPECT_EQ(shard.decoder_edges, cut.graph.decoder.size());
    }
  });
}

TEST(GraphShard, IsTheWholeGraphForOneRank) {
  const WeatherGraph graph = test::global_mesh();
  const GraphShard shard = make_shard(graph);

  EXPECT_TRUE(at::equal(shard.data_rows, at::arange(graph.data_nodes())));
  EXPECT_TRUE(at::equal(shard.hidden_rows, at::arange(graph.hidden_nodes())));
  for (const Stage& stage : kStages) {
    const EdgeShard& part = shard.*stage.part;
    EXPECT_TRUE(at::equal(part.edges.source, (graph.*stage.whole).source));
    EXPECT_TRUE(at::equal(part.edges.destination, (graph.*stage.whole).destination));
    EXPECT_TRUE(at::equal(part.rows, at::arange(part.edges.size())));
    EXPECT_EQ(part.halo.halo(), 0);
    EXPECT_EQ(part.halo.send_rows.size(0), 0);
    EXPECT_EQ(part.interior, part.edges.destinations);
  }
}

TEST(GraphShard, RejectsAPartitionOfAnotherGraph) {
  const WeatherGraph graph = test::global_mesh();
  Partition partition = make_partition(graph, 2);

  EXPECT_THROW(make_shard(test::regional_mesh(), partition, 0), UsageError);
  EXPECT_THROW(make_shard(graph, partition, 2), UsageError);
  EXPECT_THROW(make_shard(graph, partition, -1), UsageError);
  partition.hidden = partition.hidden + 1;
  EXPECT_THROW(make_shard(graph, partition, 0), UsageError);
}

}  // namespace
}  // namespace isobar::graph_shard_test
