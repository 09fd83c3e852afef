// SPDX-License-Identifier: Apache-2.0
#include "graph/doctor_warnings.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isobar {
namespace {

std::string finer_mesh(const GraphOptions& options) {
  return options.hidden_grid.empty()
             ? fmt::format("a hidden level of {}", options.hidden_level + 1)
             : fmt::format("a finer hidden grid than {}", options.hidden_grid);
}

void about_coverage(const GraphReport& report, const GraphOptions& options,
                    std::vector<std::string>& out) {
  if (report.uncovered > 0) {
    const std::string cure = report.capped_edges > 0
                                 ? fmt::format("{}, or more than {} max_neighbours",
                                               finer_mesh(options), options.max_neighbours)
                                 : fmt::format("a cutoff_factor above {}", options.cutoff_factor);
    out.push_back(
        fmt::format("{} of {} data nodes have no encoder edge, so that the model never "
                    "reads their values; take {}.",
                    report.uncovered, report.data_nodes, cure));
  }
  if (report.capped_nodes > 0) {
    out.push_back(
        fmt::format("{} of {} hidden nodes have more than {} data nodes within reach, "
                    "and {} encoder edges were cut off; take {}, or raise max_neighbours.",
                    report.capped_nodes, report.hidden_nodes, options.max_neighbours,
                    report.capped_edges, finer_mesh(options)));
  }
}

void about_hidden_nodes(const GraphReport& report, std::vector<std::string>& out) {
  const int64_t deaf = report.edges[0].destinations.without;
  if (deaf > 0) {
    out.push_back(fmt::format(
        "{} of {} hidden nodes have no data node within reach; take {}.", deaf, report.hidden_nodes,
        report.regional ? "a narrower margin_degrees or a larger cutoff_factor"
                        : "a coarser hidden mesh or a larger cutoff_factor"));
  }
  const int64_t alone = report.edges[1].destinations.without;
  if (alone > 0) {
    out.push_back(
        fmt::format("{} of {} hidden nodes have no processor edge; take a wider margin "
                    "or more processor_neighbours.",
                    alone, report.hidden_nodes));
  }
}

/// The most rows that a rank receives in a step through all stages, the processor once.
int64_t largest_halo(const PartitionReport& cut) {
  int64_t largest = 0;
  for (const RankReport& rank : cut.ranks) {
    largest = std::max(largest, rank.encoder_halo + rank.processor_halo + rank.decoder_halo);
  }
  return largest;
}

void about_cut(const PartitionReport& cut, std::vector<std::string>& out) {
  constexpr double uneven = 1.1, crowded = 0.5;
  const std::string method = to_string(cut.method);
  if (cut.imbalance > uneven) {
    out.push_back(
        fmt::format("By {} the busiest rank has {:.2f} times the mean number of edges, "
                    "and the others wait for it; take fewer ranks or the other partition.",
                    method, cut.imbalance));
  }
  const auto& ranks = cut.ranks;
  const auto crowded_rank = std::find_if(ranks.begin(), ranks.end(), [&](const RankReport& rank) {
    return static_cast<double>(rank.processor_halo) >
           crowded * static_cast<double>(rank.hidden_nodes);
  });
  if (crowded_rank != ranks.end()) {
    out.push_back(
        fmt::format("By {} rank {} receives {} rows a processor layer for {} nodes of its "
                    "own; take fewer ranks a model.",
                    method, crowded_rank - ranks.begin(), crowded_rank->processor_halo,
                    crowded_rank->hidden_nodes));
  }
}

void about_choice(const std::vector<PartitionReport>& cuts, std::vector<std::string>& out) {
  constexpr double worth_saying = 0.8;
  const auto [best, worst] = std::minmax_element(
      cuts.begin(), cuts.end(), [](const PartitionReport& a, const PartitionReport& b) {
        return largest_halo(a) < largest_halo(b);
      });
  const int64_t fewest = largest_halo(*best), most = largest_halo(*worst);
  if (static_cast<double>(fewest) < worth_saying * static_cast<double>(most)) {
    out.push_back(fmt::format(
        "By {} a rank receives up to {} rows, by {} {}; take the partition {}.",
        to_string(worst->method), most, to_string(best->method), fewest, to_string(best->method)));
  }
}

}  // namespace

std::vector<std::string> warnings_about(const GraphReport& report, const GraphOptions& options) {
  std::vector<std::string> warnings;
  about_coverage(report, options, warnings);
  about_hidden_nodes(report, warnings);
  for (const PartitionReport& cut : report.cuts) about_cut(cut, warnings);
  about_choice(report.cuts, warnings);
  return warnings;
}

}  // namespace isobar
