// SPDX-License-Identifier: Apache-2.0
#include <isobar/graph/doctor.hpp>
#include <ATen/ATen.h>

#include <algorithm>

#include "graph/cutoff.hpp"
#include "graph/doctor_warnings.hpp"

namespace isobar {
namespace {

DegreeReport degrees(const at::Tensor& ends, int64_t nodes) {
  if (nodes == 0) return {};
  const at::Tensor count = at::bincount(ends, {}, nodes);
  return {.minimum = count.min().item<int64_t>(),
          .median = count.median().item<int64_t>(),
          .maximum = count.max().item<int64_t>(),
          .without = count.eq(0).sum().item<int64_t>()};
}

EdgeSetReport inspect_edges(const char* name, const EdgeSet& edges) {
  return {name, edges.size(), degrees(edges.source, edges.sources),
          degrees(edges.destination, edges.destinations)};
}

/// Asks the search again, without the limit.
void count_capped(const WeatherGraph& graph, const GraphOptions& options, GraphReport& report) {
  const Positions hidden{graph.hidden_latitude, graph.hidden_longitude};
  const at::Tensor within = count_within({graph.data.latitude, graph.data.longitude}, hidden,
                                         cutoff_radius(hidden, options.cutoff_factor));
  const at::Tensor over = (within - options.max_neighbours).clamp_min(0);
  report.capped_nodes = over.gt(0).sum().item<int64_t>();
  report.capped_edges = over.sum().item<int64_t>();
}

/// Edges into each rank's nodes, and the rows that it receives for them.
struct Flow {
  Flow(const EdgeSet& set, const at::Tensor& source_owner, const at::Tensor& destination_owner,
       int ranks) {
    const at::Tensor from = source_owner.index_select(0, set.source);
    const at::Tensor to = destination_owner.index_select(0, set.destination);
    edges = at::bincount(to, {}, ranks);
    const at::Tensor crossing = from.ne(to);
    // A row goes to a rank once, however many of its edges read it.
    const at::Tensor keys =
        to.masked_select(crossing) * set.sources + set.source.masked_select(crossing);
    const at::Tensor rows = std::get<0>(at::_unique(keys, /*sorted=*/true));
    halo = at::bincount(rows.div(set.sources, "floor"), {}, ranks);
  }

  at::Tensor edges, halo;  // [ranks]
};

double share(const PartitionReport& report, const GraphReport& graph) {
  const auto ranks = static_cast<double>(report.ranks.size());
  if (ranks < 2) return 0;
  double moved = 0;
  for (const RankReport& rank : report.ranks) {
    moved += static_cast<double>(rank.encoder_halo + rank.processor_halo + rank.decoder_halo);
  }
  const auto rows = static_cast<double>(graph.data_nodes + 2 * graph.hidden_nodes);
  return moved / ((ranks - 1) * rows);
}

double imbalance(const std::vector<RankReport>& ranks) {
  int64_t most = 0, sum = 0;
  for (const RankReport& rank : ranks) {
    most = std::max(most, rank.edges());
    sum += rank.edges();
  }
  return static_cast<double>(most) * static_cast<double>(ranks.size()) /
         static_cast<double>(std::max<int64_t>(sum, 1));
}

PartitionReport inspect_partition(const WeatherGraph& graph, int ranks, PartitionMethod method,
                                  const GraphReport& whole) {
  const Partition partition = make_partition(graph, ranks, method);
  const at::Tensor data = at::bincount(partition.data, {}, ranks);
  const at::Tensor hidden = at::bincount(partition.hidden, {}, ranks);
  const Flow encoder(graph.encoder, partition.data, partition.hidden, ranks);
  const Flow processor(graph.processor, partition.hidden, partition.hidden, ranks);
  const Flow decoder(graph.decoder, partition.hidden, partition.data, ranks);
  PartitionReport report{.method = method, .ranks = {}};
  for (int rank = 0; rank < ranks; ++rank) {
    const auto at = [&](const at::Tensor& values) { return values[rank].item<int64_t>(); };
    report.ranks.push_back({.data_nodes = at(data),
                            .hidden_nodes = at(hidden),
                            .encoder_edges = at(encoder.edges),
                            .processor_edges = at(processor.edges),
                            .decoder_edges = at(decoder.edges),
                            .encoder_halo = at(encoder.halo),
                            .processor_halo = at(processor.halo),
                            .decoder_halo = at(decoder.halo)});
  }
  report.imbalance = imbalance(report.ranks);
  report.gathered_share = share(report, whole);
  return report;
}

}  // namespace

std::string to_string(PartitionMethod method) {
  return method == PartitionMethod::bands ? "bands" : "bisection";
}

GraphReport inspect_graph(const WeatherGraph& graph, const GraphOptions& options, int ranks) {
  GraphReport report{.data_nodes = graph.data_nodes(),
                     .hidden_nodes = graph.hidden_nodes(),
                     .regional = graph.data.regional,
                     .uncovered = graph.uncovered};
  count_capped(graph, options, report);
  report.edges = {inspect_edges("encoder", graph.encoder),
                  inspect_edges("processor", graph.processor),
                  inspect_edges("decoder", graph.decoder)};
  for (const auto method : {PartitionMethod::bands, PartitionMethod::bisection}) {
    report.cuts.push_back(inspect_partition(graph, ranks, method, report));
  }
  report.warnings = warnings_about(report, options);
  return report;
}

}  // namespace isobar
