// SPDX-License-Identifier: Apache-2.0
#include "bench/verdicts.hpp"

#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>

#include "bench/core_list.hpp"

namespace isobar::bench {

void Verdicts::add(Grade grade, std::vector<std::string> nodes, std::string measured,
                   std::string wanted, std::string advice) {
  verdicts_.push_back(
      {grade, what_, std::move(measured), std::move(wanted), std::move(nodes), std::move(advice)});
}

void Verdicts::finish(std::vector<Verdict>& into, std::string measured, std::string wanted) {
  if (verdicts_.empty()) add(Grade::ok, {}, std::move(measured), std::move(wanted));
  std::move(verdicts_.begin(), verdicts_.end(), std::back_inserter(into));
  verdicts_.clear();
}

Grade against(const Expectation& wanted, const std::string& name) {
  return wanted.uncertain.contains(name) ? Grade::warn : Grade::fail;
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 8;
  const std::vector<std::string> first(names.begin(),
                                       names.begin() + std::min(names.size(), kMost));
  const auto rest = names.size() - first.size();
  return join_words(first) + (rest > 0 ? fmt::format(" and {} others", rest) : "");
}

std::string usual_text(const NodesByText& nodes, const std::string& first) {
  auto usual = nodes.find(first);
  for (auto it = nodes.begin(); it != nodes.end(); ++it) {
    if (usual == nodes.end() || it->second.size() > usual->second.size()) usual = it;
  }
  return usual == nodes.end() ? std::string() : usual->first;
}

Grade worst(const std::vector<Verdict>& verdicts) {
  auto worst = Grade::ok;
  for (const auto& verdict : verdicts) worst = std::max(worst, verdict.grade);
  return worst;
}

std::string to_string(Grade grade) {
  return grade == Grade::ok ? "ok" : grade == Grade::warn ? "warn" : "FAIL";
}

std::string verdict_lines(const std::vector<Verdict>& verdicts) {
  std::string lines;
  for (const auto& verdict : verdicts) {
    lines += fmt::format("{:<5} {:<11} ", to_string(verdict.grade), verdict.what);
    if (!verdict.nodes.empty()) lines += some_of(verdict.nodes) + ": ";
    lines += verdict.measured;
    if (!verdict.wanted.empty()) lines += "; wanted " + verdict.wanted;
    if (!verdict.advice.empty()) lines += " (" + verdict.advice + ")";
    lines += '\n';
  }
  return lines;
}

nlohmann::json verdict_rows(const std::vector<Verdict>& verdicts) {
  auto rows = nlohmann::json::array();
  for (const auto& verdict : verdicts) {
    rows.push_back({{"grade", to_string(verdict.grade)},
                    {"what", verdict.what},
                    {"measured", verdict.measured},
                    {"wanted", verdict.wanted},
                    {"nodes", verdict.nodes},
                    {"advice", verdict.advice}});
  }
  return rows;
}

std::string places_table(const std::vector<RankPlace>& ranks) {
  std::size_t width = 4;
  for (const auto& place : ranks) width = std::max(width, place.node.size());
  auto table = fmt::format("{:>5} {:<{}} {:>5}  {:<20} {:<6} {:<18} {}\n", "rank", "node", width,
                           "local", "cores", "NUMA", "GPU", "NIC");
  for (const auto& place : ranks) {
    const auto gpu =
        place.gpu < 0 ? std::string("none") : fmt::format("{} at {}", place.gpu, place.gpu_bus);
    table +=
        fmt::format("{:>5} {:<{}} {:>5}  {:<20} {:<6} {:<18} {}\n", place.rank, place.node, width,
                    place.local_rank, core_list_text(place.cores), core_list_text(place.numa_nodes),
                    gpu, place.nics.empty() ? "none" : join_words(place.nics, ","));
  }
  return table;
}

}  // namespace isobar::bench
