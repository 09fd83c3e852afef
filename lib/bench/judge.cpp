// SPDX-License-Identifier: Apache-2.0
// On any rank, from what all have said, without communication. Nodes are first compared with each
// other, which needs no knowledge of the machine and finds the odd one; then with what the machine
// should be like, which finds what is wrong with all of them.
#include <isobar/bench/preflight.hpp>

#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "bench/verdicts.hpp"

namespace isobar::bench {
namespace {

using Nodes = std::vector<NodeReport>;

std::string nodes_text(const Nodes& nodes) {
  return fmt::format("{} node{}", nodes.size(), nodes.size() == 1 ? "" : "s");
}

std::string rate_text(double gbit_s) { return fmt::format("{:.3g} Gbit/s", gbit_s); }

std::string time_text(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.3g} us", 1e6 * seconds)
         : seconds < 1  ? fmt::format("{:.3g} ms", 1e3 * seconds)
                        : fmt::format("{:.3g} s", seconds);
}

/// A value of every node, ascending.
std::vector<double> ascending(const Nodes& nodes, double NodeReport::*value) {
  std::vector<double> values;
  for (const auto& node : nodes) values.push_back(node.*value);
  std::sort(values.begin(), values.end());
  return values;
}

/// Of two in the middle the larger or the smaller, so that one node of two never hides behind a
/// mean with the other.
double upper_median(const std::vector<double>& values) { return values[values.size() / 2]; }
double lower_median(const std::vector<double>& values) { return values[(values.size() - 1) / 2]; }

/// What is thought of a rate that is too low for the machine. Host memory is not what its figure is
/// of, so without NCCL it is only a warning.
Grade against_nominal(const Preflight& found, const Expectation& wanted) {
  return found.backend == "nccl" ? against(wanted, "node_gbit_s") : Grade::warn;
}

bool is_below_nominal(double gbit_s, const Expectation& wanted) {
  return wanted.node_gbit_s > 0 && gbit_s < wanted.least_of_nominal * wanted.node_gbit_s;
}

std::string nominal_text(const Expectation& wanted) {
  if (wanted.node_gbit_s == 0) return {};
  return fmt::format("{:g} of {}", wanted.least_of_nominal, rate_text(wanted.node_gbit_s));
}

std::string nominal_advice(const Preflight& found) {
  return found.backend == "nccl" ? "NCCL_DEBUG=INFO says which network it took"
                                 : "over host memory";
}

void judge_allreduce(const Preflight& found, const Expectation& wanted,
                     std::vector<Verdict>& into) {
  Verdicts verdicts("all-reduce");
  const auto rate = fmt::format("{} by {}, {}", rate_text(found.allreduce_gbit_s), found.backend,
                                format_bytes(found.allreduce_bytes));
  if (found.allreduce_error != 0) {
    verdicts.add(Grade::fail, {}, fmt::format("off by {:g}", found.allreduce_error),
                 "the right sum");
  } else if (found.nodes.size() > 1 && is_below_nominal(found.allreduce_gbit_s, wanted)) {
    verdicts.add(against_nominal(found, wanted), {}, rate, nominal_text(wanted),
                 nominal_advice(found));
  }
  const bool across = found.nodes.size() > 1;
  verdicts.finish(into, found.ranks.size() > 1 ? rate : "one rank, which sends nothing",
                  across ? nominal_text(wanted) : "");
}

void judge_links(const Preflight& found, const Expectation& wanted, std::vector<Verdict>& into) {
  Verdicts verdicts("link");
  if (found.nodes.size() < 2) return verdicts.finish(into, "one node, which has none to use", "");
  const auto rates = ascending(found.nodes, &NodeReport::link_gbit_s);
  const double usual = upper_median(rates);
  std::vector<std::string> low;
  double lowest = usual;
  for (const auto& node : found.nodes) {
    if (!node.link_problem.empty())
      verdicts.add(Grade::fail, {node.node}, node.link_problem, "the bytes that were sent");
    if (node.link_gbit_s < wanted.least_of_median * usual) {
      verdicts.add(Grade::fail, {node.node}, rate_text(node.link_gbit_s),
                   fmt::format("{:g} of most nodes' {}", wanted.least_of_median, rate_text(usual)),
                   "leave the node out: --exclude=" + node.node);
    } else if (is_below_nominal(node.link_gbit_s, wanted)) {
      low.push_back(node.node);
      lowest = std::min(lowest, node.link_gbit_s);
    }
  }
  if (!low.empty()) {
    verdicts.add(against_nominal(found, wanted), low, "from " + rate_text(lowest),
                 nominal_text(wanted), nominal_advice(found));
  }
  verdicts.finish(into,
                  fmt::format("{}, {} to {}", nodes_text(found.nodes), rate_text(rates.front()),
                              rate_text(rates.back())),
                  nominal_text(wanted));
}

/// Far nodes of a machine answer in a few times as long as near ones; a link that loses or delays
/// is another matter.
void judge_latency(const Preflight& found, std::vector<Verdict>& into) {
  constexpr double kOften = 10, kLeast_s = 1e-3;
  if (found.nodes.size() < 2) return;
  Verdicts verdicts("latency");
  const auto times = ascending(found.nodes, &NodeReport::link_latency_s);
  const double most_s = std::max(kOften * lower_median(times), kLeast_s);
  for (const auto& node : found.nodes) {
    if (node.link_latency_s <= most_s) continue;
    verdicts.add(
        Grade::fail, {node.node}, time_text(node.link_latency_s),
        fmt::format("{:g} times most nodes' {} at most", kOften, time_text(lower_median(times))),
        "leave the node out: --exclude=" + node.node);
  }
  verdicts.finish(into, fmt::format("{} to {}", time_text(times.front()), time_text(times.back())),
                  "");
}

/// One folder, on all nodes that could use it.
struct FolderFacts {
  std::vector<double> write_s;  ///< ascending
  std::int64_t least_free = std::numeric_limits<std::int64_t>::max();
  std::vector<std::string> full;  ///< nodes with less than is wanted
  NodesByText problems;           ///< of the others
};

FolderFacts facts_of_folder(const Nodes& nodes, std::size_t number, const Expectation& wanted) {
  FolderFacts facts;
  for (const auto& node : nodes) {
    const auto& folder = node.folders[number];
    if (!folder.problem.empty()) {
      facts.problems[folder.problem].push_back(node.node);
      continue;
    }
    facts.write_s.push_back(folder.write_s);
    facts.least_free = std::min(facts.least_free, folder.free_bytes);
    if (folder.free_bytes < wanted.free_bytes) facts.full.push_back(node.node);
  }
  std::sort(facts.write_s.begin(), facts.write_s.end());
  return facts;
}

void judge_write_times(const Nodes& nodes, std::size_t number, const FolderFacts& facts,
                       Verdicts& verdicts) {
  constexpr double kOften = 10, kLeast_s = 2;
  if (facts.write_s.empty()) return;
  const double most_s = std::max(kOften * lower_median(facts.write_s), kLeast_s);
  for (const auto& node : nodes) {
    const auto& folder = node.folders[number];
    if (folder.write_s <= most_s) continue;
    verdicts.add(Grade::warn, {node.node},
                 fmt::format("{}: {} written in {}", folder.folder, format_bytes(folder.file_bytes),
                             time_text(folder.write_s)),
                 time_text(most_s) + " at most");
  }
}

void judge_folder(const Nodes& nodes, std::size_t number, const Expectation& wanted,
                  std::vector<Verdict>& into) {
  Verdicts verdicts("folder");
  const auto facts = facts_of_folder(nodes, number, wanted);
  const auto& one = nodes.front().folders[number];
  const auto size = format_bytes(one.file_bytes);
  for (const auto& [problem, names] : facts.problems)
    verdicts.add(Grade::fail, names, one.folder + ": " + problem, size + " written and read");
  const auto free = format_bytes(facts.least_free) + " free";
  if (!facts.full.empty()) {
    verdicts.add(Grade::warn, facts.full, one.folder + ": " + free,
                 format_bytes(wanted.free_bytes));
  }
  judge_write_times(nodes, number, facts, verdicts);
  const auto slowest_s = facts.write_s.empty() ? 0 : facts.write_s.back();
  verdicts.finish(into,
                  fmt::format("{}: {} written in {} and read, {}", one.folder, size,
                              time_text(slowest_s), free),
                  format_bytes(wanted.free_bytes) + " free");
}

/// Names the nodes whose text is not that of most.
void add_odd_nodes(const NodesByText& nodes, const std::string& first, const std::string& name,
                   Grade grade, Verdicts& verdicts) {
  const auto usual = usual_text(nodes, first);
  for (const auto& [text, names] : nodes) {
    if (text == usual) continue;
    verdicts.add(
        grade, names, fmt::format("{} {}", name, text.empty() ? "is missing" : text),
        fmt::format("{}, as on {}", usual.empty() ? "none" : usual, nodes.at(usual).front()));
  }
}

using Facts = std::map<std::string, std::string>;

/// Nodes by the text that a fact of theirs has; empty where they have none.
NodesByText by_fact(const Nodes& nodes, Facts NodeReport::*facts, const std::string& name) {
  NodesByText by_text;
  for (const auto& node : nodes) {
    const auto& own = node.*facts;
    const auto found = own.find(name);
    by_text[found == own.end() ? std::string() : found->second].push_back(node.node);
  }
  return by_text;
}

std::set<std::string> fact_names(const Nodes& nodes, Facts NodeReport::*facts) {
  std::set<std::string> names;
  for (const auto& node : nodes) {
    for (const auto& [name, text] : node.*facts) names.insert(name);
  }
  return names;
}

std::string fact_of(const NodeReport& node, Facts NodeReport::*facts, const std::string& name) {
  const auto found = (node.*facts).find(name);
  return found == (node.*facts).end() ? std::string() : found->second;
}

void judge_versions(const Nodes& nodes, std::vector<Verdict>& into) {
  // Of these isobar does not depend; a node that was installed at another time is still odd.
  const std::set<std::string> less{"kernel", "GPU driver"};
  const auto facts = &NodeReport::versions;
  Verdicts verdicts("versions");
  std::vector<std::string> all;
  for (const auto& name : fact_names(nodes, facts)) {
    if (name == "program") continue;
    const auto first = fact_of(nodes.front(), facts, name);
    add_odd_nodes(by_fact(nodes, facts, name), first, name,
                  less.contains(name) ? Grade::warn : Grade::fail, verdicts);
    all.push_back(name + " " + first.substr(0, first.find(',')));
  }
  if (by_fact(nodes, facts, "isobar").size() == 1) {  // else that is said already
    add_odd_nodes(by_fact(nodes, facts, "program"), fact_of(nodes.front(), facts, "program"),
                  "program of hash", Grade::fail, verdicts);
  }
  verdicts.finish(into, join_words(all) + ", on " + nodes_text(nodes), "");
}

bool is_linked_by_isobar(const std::string& library) {
  const std::vector<std::string> own{"libmpi",  "libopen-", "libpmi",    "libnccl",   "librccl",
                                     "libhdf5", "libtorch", "libc10",    "libcuda",   "libucp",
                                     "libucs",  "libuct",   "libfabric", "libamdhip", "libatlas"};
  return std::any_of(own.begin(), own.end(),
                     [&](const std::string& name) { return library.starts_with(name); });
}

/// Nodes by a library's build, or by its path.
NodesByText by_library(const Nodes& nodes, const std::string& name,
                       std::string LoadedLibrary::*what) {
  NodesByText by_text;
  for (const auto& node : nodes) {
    const auto found = node.libraries.find(name);
    by_text[found == node.libraries.end() ? std::string() : found->second.*what].push_back(
        node.node);
  }
  return by_text;
}

std::string library_text(const LoadedLibrary& library) {
  return fmt::format("{} (build {})", library.path, library.build.substr(0, 12));
}

std::string library_text_on(const Nodes& nodes, const std::string& node, const std::string& name) {
  const auto there = std::find_if(nodes.begin(), nodes.end(),
                                  [&](const NodeReport& report) { return report.node == node; });
  const auto found = there->libraries.find(name);
  return found == there->libraries.end() ? "not loaded" : library_text(found->second);
}

/// Libraries that nodes have in another way than most, by grade and nodes: a path that is searched
/// first on one node makes many differ at once.
using OddLibraries = std::map<std::pair<Grade, std::vector<std::string>>, std::vector<Verdict>>;

/// What a program loads while it runs is not the same everywhere: of what isobar is not linked with
/// a library that is missing is not counted.
void find_odd_library(const Nodes& nodes, const std::string& name, OddLibraries& odd) {
  for (auto what : {&LoadedLibrary::build, &LoadedLibrary::path}) {
    auto by_text = by_library(nodes, name, what);
    const bool linked = is_linked_by_isobar(name);
    if (!linked) by_text.erase("");
    if (by_text.size() == 1) continue;
    const auto first = nodes.front().libraries.find(name);
    const auto usual =
        usual_text(by_text, first == nodes.front().libraries.end() ? "" : first->second.*what);
    const auto grade = linked && what == &LoadedLibrary::build ? Grade::fail : Grade::warn;
    for (const auto& [text, names] : by_text) {
      if (text == usual) continue;
      const auto as = by_text.at(usual).front();
      odd[{grade, names}].push_back(
          {.measured = fmt::format("{} {}", name, library_text_on(nodes, names.front(), name)),
           .wanted = fmt::format("{}, as on {}", library_text_on(nodes, as, name), as)});
    }
    return;  // another build in another place is one finding
  }
}

void judge_libraries(const Nodes& nodes, std::vector<Verdict>& into) {
  Verdicts verdicts("libraries");
  std::set<std::string> names;
  for (const auto& node : nodes) {
    for (const auto& [name, library] : node.libraries) names.insert(name);
  }
  OddLibraries odd;
  for (const auto& name : names) find_odd_library(nodes, name, odd);
  for (const auto& [who, found] : odd) {
    const auto more = found.size() > 1 ? fmt::format(", and {} more", found.size() - 1) : "";
    verdicts.add(who.first, who.second, found.front().measured + more, found.front().wanted,
                 "LD_LIBRARY_PATH and modules there");
  }
  verdicts.finish(into, fmt::format("{} loaded, on {}", names.size(), nodes_text(nodes)), "");
}

void judge_nics(const Nodes& nodes, const Expectation& wanted, std::vector<Verdict>& into) {
  const auto facts = &NodeReport::nic_states;
  Verdicts verdicts("NIC");
  for (const auto& name : fact_names(nodes, facts)) {
    const auto by_state = by_fact(nodes, facts, name);
    // Ethernet beside a network of its own may have other names on other nodes.
    const bool is_ethernet = by_state.rbegin()->first.starts_with("up");
    add_odd_nodes(by_state, fact_of(nodes.front(), facts, name), name,
                  is_ethernet ? Grade::warn : Grade::fail, verdicts);
  }
  for (const auto& nic : wanted.nics) {
    std::vector<std::string> without;
    const auto name = nic.substr(0, nic.find(':'));  // what follows is a port
    for (const auto& node : nodes) {
      if (!fact_of(node, facts, name).starts_with("ACTIVE")) without.push_back(node.node);
    }
    const bool all = without.size() == nodes.size();  // a few are named above
    if (all && !nodes.empty())
      verdicts.add(against(wanted, "nics"), {}, name + " is not there, or not active", name);
  }
  std::vector<std::string> said;
  for (const auto& [name, state] : nodes.front().nic_states) said.push_back(name + " " + state);
  verdicts.finish(into, said.empty() ? "none is shown" : join_words(said, "; "),
                  join_words(wanted.nics));
}

void judge_clocks(const Nodes& nodes, const Expectation& wanted, std::vector<Verdict>& into) {
  constexpr double kFar = 100;  // times what is a warning; certificates and munge begin to fail
  if (nodes.size() < 2) return;
  Verdicts verdicts("clock");
  const double usual_s = lower_median(ascending(nodes, &NodeReport::clock_offset_s));
  double most_s = 0;
  for (const auto& node : nodes) {
    const double off_s = node.clock_offset_s - usual_s;
    const double sure_s = std::abs(off_s) - node.clock_error_s;
    most_s = std::max(most_s, std::abs(off_s));
    if (sure_s <= wanted.clock_skew_s) continue;
    verdicts.add(sure_s > kFar * wanted.clock_skew_s ? Grade::fail : Grade::warn, {node.node},
                 fmt::format("{} {} most nodes", time_text(std::abs(off_s)),
                             off_s > 0 ? "ahead of" : "behind"),
                 fmt::format("{} at most", time_text(wanted.clock_skew_s)));
  }
  verdicts.finish(into, fmt::format("{} apart at most", time_text(most_s)),
                  time_text(wanted.clock_skew_s));
}

}  // namespace

std::vector<Verdict> judge(const Preflight& found, const Expectation& wanted) {
  std::vector<Verdict> verdicts;
  if (found.nodes.empty()) return verdicts;
  judge_links(found, wanted, verdicts);
  judge_latency(found, verdicts);
  judge_allreduce(found, wanted, verdicts);
  for (std::size_t i = 0; i < found.nodes.front().folders.size(); ++i)
    judge_folder(found.nodes, i, wanted, verdicts);
  judge_versions(found.nodes, verdicts);
  judge_libraries(found.nodes, verdicts);
  judge_nics(found.nodes, wanted, verdicts);
  judge_clocks(found.nodes, wanted, verdicts);
  const auto binding = judge_binding(found.ranks, wanted);
  verdicts.insert(verdicts.end(), binding.begin(), binding.end());
  return verdicts;
}

}  // namespace isobar::bench
