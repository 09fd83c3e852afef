// SPDX-License-Identifier: Apache-2.0
// Called by each rank of a model for its own part, on one thread and without a message: all ranks
// have the same graph and partition, and what two of them compute of their border fits together.
//
// That rests on one order. Of the edges from nodes of rank a to nodes of rank b, a takes the
// sources as what it sends to b, b as what it receives from a; both sort them by their number in
// the whole graph (HaloNodes), so that row k that leaves is row k that arrives. In another order
// the lengths would still agree, and no check would notice. Nodes with a source elsewhere are
// numbered last, hence their edges are the last chunks of a pass; the edges of a destination keep
// their order.
#include <isobar/core/error.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <ATen/ATen.h>

#include <numeric>

namespace isobar {
namespace {

at::Tensor rows_of(const at::Tensor& mask) { return mask.nonzero().flatten(); }

std::vector<int64_t> counts_by_rank(const at::Tensor& owners, int ranks) {
  const at::Tensor counts = at::bincount(owners, {}, ranks);
  const auto* data = counts.const_data_ptr<int64_t>();
  return {data, data + ranks};
}

/// One set of graph nodes: who owns them, and how this rank numbers its own.
struct Nodes {
  at::Tensor owner;   // [N]
  at::Tensor rows;    // [n] own nodes, as the rank numbers them
  at::Tensor number;  // [N] their numbers; -1 for those of others

  int64_t size() const { return owner.size(0); }
};

/// Own nodes numbered in order, those in `border` ([N] bool) after the others.
Nodes number_nodes(const at::Tensor& owner, int rank, const at::Tensor& border) {
  const at::Tensor own = owner.eq(rank);
  Nodes nodes{owner, at::cat({rows_of(own & ~border), rows_of(own & border)}),
              at::full({owner.size(0)}, -1, at::kLong)};
  nodes.number.index_copy_(0, nodes.rows, at::arange(nodes.rows.size(0), at::kLong));
  return nodes;
}

/// An edge set of the whole graph with the owners of both ends of each edge.
struct OwnedEdges {
  OwnedEdges(const EdgeSet& edges, const at::Tensor& source_owner,
             const at::Tensor& destination_owner, int rank)
      : whole(edges),
        from(source_owner.index_select(0, edges.source)),
        to(destination_owner.index_select(0, edges.destination)),
        into(to.eq(rank)),
        out_of(from.eq(rank)) {}

  /// Marks own nodes with a source that another rank owns.
  void mark_border(at::Tensor& border) const {
    border.index_fill_(0, whole.destination.index_select(0, rows_of(into & ~out_of)), true);
  }

  const EdgeSet& whole;
  at::Tensor from, to;      // [E] the ranks that own source and destination
  at::Tensor into, out_of;  // [E] bool: this rank owns the destination, the source
};

/// Nodes that ranks send each other, by peer and for one peer in global order.
struct HaloNodes {
  /// Of edges in `rows`: `peers` [E] holds the rank at the other end of each edge.
  HaloNodes(const EdgeSet& edges, const at::Tensor& peers, const at::Tensor& rows, int ranks) {
    const at::Tensor keys =
        peers.index_select(0, rows) * edges.sources + edges.source.index_select(0, rows);
    const at::Tensor unique = std::get<0>(at::_unique(keys, /*sorted=*/true));
    nodes = unique.remainder(edges.sources);
    counts = counts_by_rank(unique.div(edges.sources, "floor"), ranks);
  }

  at::Tensor nodes;  // global
  std::vector<int64_t> counts;
};

EdgeShard cut_out(const OwnedEdges& edges, const Nodes& sources, const Nodes& destinations,
                  const at::Tensor& border, int ranks) {
  const EdgeSet& whole = edges.whole;
  const HaloNodes sent(whole, edges.to, rows_of(edges.out_of & ~edges.into), ranks);
  const HaloNodes received(whole, edges.from, rows_of(edges.into & ~edges.out_of), ranks);
  const int64_t owned = sources.rows.size(0);
  at::Tensor number = sources.number.clone();
  number.index_copy_(0, received.nodes,
                     at::arange(owned, owned + received.nodes.size(0), at::kLong));

  // The whole set is sorted by destination and so are both groups: no sort is needed.
  const at::Tensor at_border = border.index_select(0, whole.destination);
  const at::Tensor rows =
      at::cat({rows_of(edges.into & ~at_border), rows_of(edges.into & at_border)});
  EdgeShard shard{
      .edges = {number.index_select(0, whole.source.index_select(0, rows)),
                destinations.number.index_select(0, whole.destination.index_select(0, rows)),
                whole.attributes.index_select(0, rows), owned + received.nodes.size(0),
                destinations.rows.size(0)},
      .rows = rows,
      .halo = {sources.number.index_select(0, sent.nodes), sent.counts, received.counts, owned}};
  const at::Tensor outward = rows_of(shard.edges.source.ge(owned));
  shard.interior = outward.size(0) == 0
                       ? shard.edges.destinations
                       : shard.edges.destination[outward[0].item<int64_t>()].item<int64_t>();
  return shard;
}

void check_owners(const at::Tensor& owners, int64_t nodes, int ranks, const char* kind) {
  ISOBAR_CHECK(owners.dim() == 1 && owners.size(0) == nodes, "make_shard: the partition owns ",
               owners.numel(), " ", kind, " nodes, the graph has ", nodes,
               "; make the partition of this graph");
  const auto [low, high] = at::aminmax(owners);
  ISOBAR_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < ranks,
               "make_shard: the owner of each ", kind, " node must be 0 to ", ranks - 1, ", got ",
               low.item<int64_t>(), " to ", high.item<int64_t>());
}

}  // namespace

int64_t HaloPlan::halo() const {
  return std::accumulate(receive_counts.begin(), receive_counts.end(), int64_t{0});
}

GraphShard make_shard(const WeatherGraph& graph, const Partition& partition, int rank) {
  const int ranks = partition.ranks;
  ISOBAR_CHECK(rank >= 0 && rank < ranks, "make_shard: rank must be 0 to ", ranks - 1, ", got ",
               rank);
  check_owners(partition.data, graph.data_nodes(), ranks, "data");
  check_owners(partition.hidden, graph.hidden_nodes(), ranks, "hidden");
  const OwnedEdges encoder(graph.encoder, partition.data, partition.hidden, rank);
  const OwnedEdges processor(graph.processor, partition.hidden, partition.hidden, rank);
  const OwnedEdges decoder(graph.decoder, partition.hidden, partition.data, rank);

  at::Tensor data_border = at::zeros({graph.data_nodes()}, at::kBool);
  at::Tensor hidden_border = at::zeros({graph.hidden_nodes()}, at::kBool);
  encoder.mark_border(hidden_border);
  processor.mark_border(hidden_border);
  decoder.mark_border(data_border);
  const Nodes data = number_nodes(partition.data, rank, data_border);
  const Nodes hidden = number_nodes(partition.hidden, rank, hidden_border);

  const at::Tensor data_attributes = node_attributes(graph.data.latitude, graph.data.longitude);
  const at::Tensor hidden_attributes =
      node_attributes(graph.hidden_latitude, graph.hidden_longitude);
  return {.data_rows = data.rows,
          .hidden_rows = hidden.rows,
          .data_attributes = data_attributes.index_select(0, data.rows),
          .hidden_attributes = hidden_attributes.index_select(0, hidden.rows),
          .encoder = cut_out(encoder, data, hidden, hidden_border, ranks),
          .processor = cut_out(processor, hidden, hidden, hidden_border, ranks),
          .decoder = cut_out(decoder, hidden, data, data_border, ranks),
          .data_nodes = graph.data_nodes(),
          .hidden_nodes = graph.hidden_nodes(),
          .encoder_edges = graph.encoder.size(),
          .processor_edges = graph.processor.size(),
          .decoder_edges = graph.decoder.size()};
}

GraphShard make_shard(const WeatherGraph& graph) {
  return make_shard(graph, make_partition(graph, 1), 0);
}

}  // namespace isobar
