// SPDX-License-Identifier: Apache-2.0
// Called on every rank by `isobar doctor --cluster`. What a rank finds out alone becomes text and
// is gathered, so that a node on which something fails takes part in all that follows; only what
// the communicator throws ends the measurement.
#include <isobar/bench/preflight.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/bench/measure.hpp>
#include <isobar/comm/agreement.hpp>
#include <isobar/launch/environment.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>

#include "bench/folder_trial.hpp"
#include "bench/node_exchange.hpp"
#include "bench/node_facts.hpp"

namespace isobar::bench {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankPlace, rank, node, local_rank, cores, numa_nodes, node_cores,
                                   node_gpus, usable_gpus, gpu, gpu_bus, gpu_numa, gpu_cores, nics,
                                   open_files, open_files_most);
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FolderReport, folder, problem, write_s, read_s, file_bytes,
                                   free_bytes);
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LoadedLibrary, path, build);
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NodeReport, node, versions, libraries, nic_states, folders,
                                   clock_offset_s, clock_error_s, link_gbit_s, link_latency_s,
                                   link_problem);
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ExchangeReport, gbit_s, latency_s, problem);
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClockReading, offset_s, error_s);

namespace {

using nlohmann::json;

/// Names of files may be anything; what is no text is replaced.
std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::vector<json> gather_objects(Communicator& comm, const json& own) {
  std::vector<json> all;
  for (const auto& text : gather_texts(comm, text_of(own))) all.push_back(json::parse(text));
  return all;
}

double system_clock_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

/// Of as many bytes as take a tenth of a second each.
void measure_allreduce(Communicator& comm, const PreflightOptions& options, Preflight& found) {
  if (comm.size() == 1) return;
  constexpr double kEach_s = 0.1;
  constexpr std::int64_t kProbe = 256 << 10;
  const std::int64_t suits = options.device.is_cpu() ? 64 << 20 : 256 << 20;
  const auto most = std::max(kProbe, options.most_bytes > 0 ? options.most_bytes : suits);
  const auto subject = make_communicator_subject(comm, Collective::allreduce);
  MeasureOptions how{.device = options.device, .warmup = 1, .repeats = 3};
  const double probe_s = measure(*subject, how, kProbe).seconds.median;
  const auto wanted = static_cast<std::int64_t>(static_cast<double>(kProbe) * kEach_s / probe_s);
  const auto result = measure(*subject, how, std::clamp(wanted, kProbe, most));
  found.allreduce_bytes = result.bytes;
  found.allreduce_error = result.error;
  found.allreduce_gbit_s = algbw_gbit_s(result.bytes, result.seconds.median) *
                           busbw_factor(Collective::allreduce, comm.size());
}

/// What the node's first rank finds out for it.
NodeReport read_node(const RankPlace& place, const PreflightOptions& options) {
  NodeReport report;
  report.node = place.node;
  report.versions = read_versions(options);
  report.libraries = loaded_libraries();
  report.nic_states = read_nic_states("/");
  for (const auto& folder : options.folders)
    report.folders.push_back(try_folder(folder, options.file_bytes, place.node));
  return report;
}

/// The sum of the node's ranks in its best round.
double best_round(const std::vector<ExchangeReport>& exchanges, const std::vector<int>& ranks) {
  double best = 0;
  for (std::size_t round = 0; round < exchanges[ranks.front()].gbit_s.size(); ++round) {
    double sum = 0;
    for (const int rank : ranks) sum += exchanges[rank].gbit_s[round];
    best = std::max(best, sum);
  }
  return best;
}

void add_exchanges(NodeReport& node, const std::vector<ExchangeReport>& exchanges,
                   const std::vector<int>& ranks) {
  node.link_gbit_s = best_round(exchanges, ranks);
  for (const int rank : ranks) {
    const auto& exchange = exchanges[rank];
    if (exchange.latency_s > 0 &&
        (node.link_latency_s == 0 || exchange.latency_s < node.link_latency_s))
      node.link_latency_s = exchange.latency_s;
    if (!exchange.problem.empty()) node.link_problem = exchange.problem;
  }
}

/// What all ranks have sent, put together by node.
std::vector<NodeReport> collect_nodes(const NodeLayout& layout, const std::vector<json>& sent) {
  const auto clocks = sent.front().at("clocks").get<std::vector<ClockReading>>();
  std::vector<ExchangeReport> exchanges;
  for (const auto& one : sent) exchanges.push_back(one.at("exchange").get<ExchangeReport>());
  std::vector<NodeReport> nodes;
  for (std::size_t i = 0; i < layout.names.size(); ++i) {
    auto node = sent[layout.ranks[i].front()].at("node").get<NodeReport>();
    node.clock_offset_s = clocks[i].offset_s;
    node.clock_error_s = clocks[i].error_s;
    add_exchanges(node, exchanges, layout.ranks[i]);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace

std::vector<RankPlace> gather_places(Communicator& comm, const PreflightOptions& options) {
  auto own = read_place(options, read_launch_environment().local_rank);
  own.rank = comm.rank();
  std::vector<RankPlace> places;
  for (const auto& place : gather_objects(comm, own)) places.push_back(place.get<RankPlace>());
  return places;
}

Preflight run_preflight(Communicator& comm, const PreflightOptions& options) {
  Preflight found{.ranks = gather_places(comm, options), .backend = std::string(comm.backend())};
  std::vector<std::string> node_of_rank;
  for (const auto& place : found.ranks) node_of_rank.push_back(place.node);
  const auto layout = lay_out_nodes(node_of_rank);

  measure_allreduce(comm, options, found);
  json own{{"exchange", exchange_between_nodes(comm, layout, options)}};
  own["clocks"] =
      read_clocks(comm, layout, options.wall_clock_s ? options.wall_clock_s : system_clock_s);
  const auto& first_of_node = layout.ranks[layout.node_of[comm.rank()]].front();
  if (comm.rank() == first_of_node) own["node"] = read_node(found.ranks[comm.rank()], options);
  found.nodes = collect_nodes(layout, gather_objects(comm, own));
  return found;
}

json preflight_object(const Preflight& found) {
  return {{"ranks", found.ranks},
          {"nodes", found.nodes},
          {"backend", found.backend},
          {"allreduce_bytes", found.allreduce_bytes},
          {"allreduce_gbit_s", found.allreduce_gbit_s},
          {"allreduce_error", found.allreduce_error}};
}

}  // namespace isobar::bench
