// SPDX-License-Identifier: Apache-2.0
#include "cli/graph_report.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isobar {
namespace {

std::string nodes_table(const GraphReport& report) {
  std::string text = fmt::format(
      "data nodes     {:>9}   {} without an encoder edge\n"
      "hidden nodes   {:>9}   {} with more data nodes in reach than they read,\n"
      "{:>27} which cut off {} edges\n\n",
      report.data_nodes, report.uncovered, report.hidden_nodes, report.capped_nodes, "",
      report.capped_edges);
  text += fmt::format("{:<10} {:>9}   {:<25} {:<25}\n", "edges", "", "out of a source (without)",
                      "into a destination (without)");
  const auto degrees = [](const DegreeReport& d) {
    return fmt::format("{} / {} / {} ({})", d.minimum, d.median, d.maximum, d.without);
  };
  for (const EdgeSetReport& edges : report.edges) {
    text += fmt::format("{:<10} {:>9}   {:<25} {:<25}\n", edges.name, edges.edges,
                        degrees(edges.sources), degrees(edges.destinations));
  }
  return text + "each: minimum / median / maximum\n";
}

std::string cut_table(const PartitionReport& cut) {
  std::string text = fmt::format(
      "\n{:<4} {:>18}   {:>29}   {:>22}\n{:<4} {:>9} {:>8}   {:>9} {:>9} {:>9}   {:>7} {:>6} "
      "{:>7}\n",
      "", "nodes", "edges", "rows that it receives", "rank", "data", "hidden", "encoder",
      "processor", "decoder", "encoder", "proc.", "decoder");
  for (std::size_t rank = 0; rank < cut.ranks.size(); ++rank) {
    const RankReport& r = cut.ranks[rank];
    text += fmt::format("{:<4} {:>9} {:>8}   {:>9} {:>9} {:>9}   {:>7} {:>6} {:>7}\n", rank,
                        r.data_nodes, r.hidden_nodes, r.encoder_edges, r.processor_edges,
                        r.decoder_edges, r.encoder_halo, r.processor_halo, r.decoder_halo);
  }
  return text;
}

std::string cut_line(const PartitionReport& cut, PartitionMethod shown) {
  return fmt::format(
      "{}{}: busiest rank {:.3f} times the mean of edges;\n"
      "  halos are {:.3f} % of what all-gathers would move\n",
      to_string(cut.method), cut.method == shown ? " (above)" : "", cut.imbalance,
      100 * cut.gathered_share);
}

nlohmann::json degree_row(const EdgeSetReport& edges, const char* end,
                          const DegreeReport& degrees) {
  return {{"kind", "degrees"},          {"edges", edges.name},      {"end", end},
          {"minimum", degrees.minimum}, {"median", degrees.median}, {"maximum", degrees.maximum},
          {"without", degrees.without}};
}

nlohmann::json rank_row(const PartitionReport& cut, std::size_t rank) {
  const RankReport& r = cut.ranks[rank];
  return {{"kind", "rank"},
          {"partition", to_string(cut.method)},
          {"rank", rank},
          {"data_nodes", r.data_nodes},
          {"hidden_nodes", r.hidden_nodes},
          {"encoder_edges", r.encoder_edges},
          {"processor_edges", r.processor_edges},
          {"decoder_edges", r.decoder_edges},
          {"encoder_halo_rows", r.encoder_halo},
          {"processor_halo_rows", r.processor_halo},
          {"decoder_halo_rows", r.decoder_halo}};
}

}  // namespace

std::string hidden_name(const GraphOptions& options) {
  return options.hidden_grid.empty() ? "ico" + std::to_string(options.hidden_level)
                                     : options.hidden_grid;
}

std::string graph_line(const StoredGraph& stored) {
  const WeatherGraph& graph = stored.graph;
  return fmt::format("{}, hidden mesh {}: {} + {} nodes, {} + {} + {} edges\n", graph.data.name,
                     hidden_name(stored.options), graph.data_nodes(), graph.hidden_nodes(),
                     graph.encoder.size(), graph.processor.size(), graph.decoder.size());
}

std::string graph_table(const GraphReport& report, PartitionMethod method) {
  std::string text = nodes_table(report);
  for (const PartitionReport& cut : report.cuts) {
    if (cut.method == method && cut.ranks.size() > 1) text += cut_table(cut);
  }
  for (const PartitionReport& cut : report.cuts) {
    if (cut.ranks.size() > 1) text += cut_line(cut, method);
  }
  text += "\n";
  for (const std::string& warning : report.warnings) text += "warning: " + warning + "\n";
  return text + (report.warnings.empty() ? "nothing is amiss\n" : "");
}

nlohmann::json graph_row(const StoredGraph& stored) {
  const auto& graph = stored.graph;
  return {{"kind", "graph"},
          {"grid", graph.data.name},
          {"hidden", hidden_name(stored.options)},
          {"data_nodes", graph.data_nodes()},
          {"hidden_nodes", graph.hidden_nodes()},
          {"encoder_edges", graph.encoder.size()},
          {"processor_edges", graph.processor.size()},
          {"decoder_edges", graph.decoder.size()},
          {"uncovered", graph.uncovered}};
}

nlohmann::json graph_rows(const StoredGraph& stored, const GraphReport& report,
                          PartitionMethod method) {
  auto first = graph_row(stored);
  first["capped_nodes"] = report.capped_nodes;
  first["capped_edges"] = report.capped_edges;
  auto rows = nlohmann::json::array({first});
  for (const EdgeSetReport& edges : report.edges) {
    rows.push_back(degree_row(edges, "source", edges.sources));
    rows.push_back(degree_row(edges, "destination", edges.destinations));
  }
  for (const PartitionReport& cut : report.cuts) {
    rows.push_back({{"kind", "partition"},
                    {"partition", to_string(cut.method)},
                    {"ranks", cut.ranks.size()},
                    {"imbalance", cut.imbalance},
                    {"gathered_share", cut.gathered_share}});
    if (cut.method != method) continue;
    for (std::size_t rank = 0; rank < cut.ranks.size(); ++rank) {
      rows.push_back(rank_row(cut, rank));
    }
  }
  for (const std::string& text : report.warnings) {
    rows.push_back({{"kind", "warning"}, {"text", text}});
  }
  return rows;
}

}  // namespace isobar
