// SPDX-License-Identifier: Apache-2.0
// Reads what `isobar project` is told. A step comes from a report of `isobar bench step` or `bench
// compression`, or from the file's numbers; calibration.cpp makes a projection's input of it. What
// was measured is calibrated on the link it was measured on, and only then put on another one.
#include <isobar/projection/projection_file.hpp>

#include "projection/calibration.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

constexpr double kMicrosecond = 1e-6;

json read_report_file(const Config& section, const std::string& key, const std::string& path,
                      const std::string& schema) {
  std::ifstream file(path);
  ISOBAR_CHECK(file, section.origin(key), ": ", key, ": cannot read '", path, "'");
  const json report = json::parse(file, nullptr, /*allow_exceptions=*/false);
  ISOBAR_CHECK(!report.is_discarded() && report.is_object() && report.value("schema", "") == schema,
               section.origin(key), ": ", key, ": '", path, "' is no report of schema ", schema,
               "; make it with --json");
  ISOBAR_CHECK(report.contains("rows") && !report.at("rows").empty(), section.origin(key), ": ",
               key, ": '", path, "' has no rows");
  return report.at("rows");
}

json read_report_rows(const Config& section, const std::string& key, const std::string& schema) {
  return read_report_file(section, key, section.get<std::string>(key), schema);
}

/// That of `key`, and those of further calls in step.repeats.
std::vector<json> read_repeated_rows(const Config& step, const std::string& key,
                                     const std::string& schema) {
  std::vector<json> reports{read_report_rows(step, key, schema)};
  for (const auto& path : step.get<std::vector<std::string>>("repeats", {})) {
    reports.push_back(read_report_file(step, "repeats", path, schema));
  }
  return reports;
}

/// "4 4 64MiB 850.5": nodes, ranks of each, size, microseconds.
NetworkSample parse_sample(const std::string& text, const std::string& origin) {
  std::istringstream words(text);
  NetworkSample sample;
  std::string size, rest;
  double microseconds = 0;
  words >> sample.nodes >> sample.node_ranks >> size >> microseconds;
  const auto bytes = parse_bytes(size);
  ISOBAR_CHECK(words && bytes && !(words >> rest), origin, ": network.allreduce: '", text,
               "' is not 'NODES RANKS_PER_NODE SIZE MICROSECONDS', such as '4 4 64MiB 850.5'");
  sample.bytes = *bytes;
  sample.seconds = microseconds * kMicrosecond;
  return sample;
}

std::vector<NetworkSample> samples_of_report(const json& rows, int node_ranks,
                                             const std::string& origin) {
  std::vector<NetworkSample> samples;
  for (const auto& row : rows) {
    if (row.value("op", "") != "allreduce") continue;
    const int ranks = row.at("ranks").get<int>();
    const int nodes = row.value("nodes", ranks / node_ranks);
    ISOBAR_CHECK(nodes > 0 && nodes * node_ranks == ranks, origin, ": network.report: its ", ranks,
                 " ranks were on ", nodes, nodes == 1 ? " node" : " nodes",
                 ", and ranks.per_node is ", node_ranks,
                 "; say how many a node had, or measure on several nodes");
    samples.push_back({.nodes = nodes,
                       .node_ranks = node_ranks,
                       .bytes = row.at("bytes").get<std::int64_t>(),
                       .seconds = row.at("median_s").get<double>()});
  }
  return samples;
}

/// On a link `faster` times as fast: latencies stay, and a transport takes from the cores that
/// compute by the bytes that it moves. Of the seconds of a byte only the link's own change, where
/// they are known: what a host takes more stays.
void run_at_rate(double faster, double link_byte_s, ProjectionInput& input) {
  auto& model = input.network.model;
  const bool is_known = link_byte_s > 0 && link_byte_s < model.byte_s;
  const double of_link = is_known ? link_byte_s / model.byte_s : 1;
  const double longer = 1 + of_link * (1 / faster - 1);
  model.byte_s *= longer;
  model.spread_byte_s /= faster;
  model.fill_s /= std::sqrt(faster);
  const std::array<double, 4> factor{1, longer, 1 / faster, 1 / std::sqrt(faster)};
  for (std::size_t i = 0; i < factor.size(); ++i) {
    for (double& value : input.network.spread[i]) value *= factor[i];
  }
  input.compute_rate = std::max(kLeastComputeRate, 1 - (1 - input.compute_rate) * faster);
  input.known_rate_factor = faster;
}

bool has_own_network(const Config& section) {
  return section.has("allreduce") || section.has("report") || section.has("node_gbit_s");
}

NetworkFit read_network(const Config& section, int node_ranks) {
  NetworkFit fit;
  const bool has_samples = section.has("allreduce"), has_report = section.has("report");
  if (has_samples || has_report) {
    std::vector<NetworkSample> samples;
    for (const auto& text : section.get<std::vector<std::string>>("allreduce", {})) {
      samples.push_back(parse_sample(text, section.origin("allreduce")));
    }
    if (has_report) {
      const auto rows = read_report_rows(section, "report", "isobar.bench.collective.1");
      const auto more = samples_of_report(rows, node_ranks, section.origin("report"));
      samples.insert(samples.end(), more.begin(), more.end());
    }
    fit = fit_network(samples);
  } else {
    const double gbit_s = section.get<double>("node_gbit_s", Limits{.above = 0});
    const double reached = section.get<double>("reached", 1, Limits{.most = 1, .above = 0});
    const double hop_us = section.get<double>("hop_us", at_least(0));
    fit.model = ideal_network(gbit_s * 1e9 * reached, hop_us * kMicrosecond);
    // A rate that is not measured everywhere is as uncertain as the file says.
    const double uncertain = section.get<double>("reached_deviation", 0, at_least(0));
    fit.spread[1][1] = uncertain / reached * fit.model.byte_s;
  }
  return fit;
}

/// Buckets of `cap` bytes, whose gradients come evenly through the backward pass.
std::vector<StagedBucket> even_buckets(std::int64_t bytes, std::int64_t cap, double backward_s) {
  std::vector<StagedBucket> buckets;
  for (std::int64_t begin = 0; begin < bytes; begin += cap) {
    const auto size = std::min(cap, bytes - begin);
    const double ready_s =
        backward_s * static_cast<double>(begin + size) / static_cast<double>(bytes);
    buckets.push_back({.ready_s = ready_s, .stages = {{.compute_s = 0, .bytes = size}}});
  }
  return buckets;
}

void read_numbers(const Config& step, ProjectionInput& input) {
  input.compute = {.forward_s = step.get<double>("forward_s", at_least(0)),
                   .backward_s = step.get<double>("backward_s", at_least(0)),
                   .optimizer_s = step.get<double>("optimizer_s", 0, at_least(0))};
  const auto bytes = step.get_bytes("gradient_bytes");
  const auto cap = step.get_bytes("bucket_cap", 25 << 20);
  ISOBAR_CHECK(bytes > 0 && cap > 0, step.origin("gradient_bytes"),
               ": step.gradient_bytes and step.bucket_cap must be positive, got ", bytes, " and ",
               cap);
  input.buckets = even_buckets(bytes, cap, input.compute.backward_s);
}

/// Any buckets, unless the file says how large they may be.
std::int64_t read_cap(const Config& step) {
  if (!step.has("bucket_cap")) return 0;
  return step.get_bytes("bucket_cap", 0, Limits{.above = 0});
}

/// Returns the seconds of a byte on the report's link; 0 where it does not say.
double read_step(const Config& step, bool has_network, ProjectionInput& input) {
  if (step.has("compression")) {
    const auto reports = read_repeated_rows(step, "compression", "isobar.bench.compression.1");
    input.repeatability = repeatability_of_compression(reports);
    return take_compression(median_report(reports), step.get<std::string>("method", "none"),
                            read_cap(step), has_network, input)
        .link_byte_s;
  }
  if (step.has("report")) {
    const auto reports = read_repeated_rows(step, "report", "isobar.bench.step.1");
    input.repeatability = repeatability_of_step(reports);
    const auto calibration = take_step(median_report(reports).front(), read_cap(step), input);
    input.compute_rate = calibrated_rate(input, calibration);
    return calibration.link_byte_s;
  }
  read_numbers(step, input);
  return 0;
}

SharedNetwork read_shared(const Config& section) {
  return {.most_lost = section.get<double>("most_lost", 0, Limits{.least = 0, .below = 1}),
          .group_nodes = section.get<int>("group_nodes", 1, at_least(1)),
          .machine_nodes = section.get<int>("machine_nodes", 0, at_least(0))};
}

Jitter read_jitter(const Config& section) {
  return {.between_ranks = section.get<double>("between_ranks", 0, at_least(0)),
          .between_steps = section.get<double>("between_steps", 0, at_least(0)),
          .collectives = section.get<double>("collectives", 0, at_least(0))};
}

void read_waits(const Config& config, ProjectionInput& input) {
  const auto data = config.child("data");
  input.data_wait_s = data.get<double>("wait_s", 0, at_least(0));
  input.node_read_bytes = static_cast<double>(data.get_bytes("node_bytes", 0));
  input.storage_bytes_s = data.get<double>("storage_gb_s", 0, at_least(0)) * 1e9;
  const auto run = config.child("run");
  input.start_s = run.get<double>("start_s", 0, at_least(0));
  input.steps = run.get<std::int64_t>("steps", 0, at_least(0));
}

std::vector<int> read_nodes(const Config& section) {
  auto nodes = section.get<std::vector<int>>("nodes");
  ISOBAR_CHECK(!nodes.empty() && *std::min_element(nodes.begin(), nodes.end()) > 0,
               section.origin("nodes"), ": projection.nodes: wanted numbers of nodes, 1 or more");
  std::sort(nodes.begin(), nodes.end());
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  return nodes;
}

}  // namespace

Projection read_projection(const Config& config) {
  const auto head = config.child("projection");
  Projection projection{.name = head.get<std::string>("name"), .nodes = read_nodes(head)};
  projection.campaign = head.get<std::string>("campaign", projection.name);
  auto& input = projection.input;
  const auto ranks = config.child("ranks");
  input.node_ranks = ranks.get<int>("per_node", 1, at_least(1));
  input.compute_ranks = ranks.get<int>("computing", input.node_ranks, at_least(1));
  const auto network = config.child("network");
  const auto step = config.child("step");
  const bool has_network = !step.has("compression") || has_own_network(network);
  if (has_network) input.network = read_network(network, input.node_ranks);
  input.jitter = read_jitter(config.child("jitter"));
  input.shared = read_shared(config.child("shared_network"));
  read_waits(config, input);
  const auto rate = step.get<double>("compute_rate", 0, Limits{.least = 0, .most = 1});
  const double measured_link = read_step(step, has_network, input);
  if (rate > 0) input.compute_rate = rate;
  const double link_gbit_s = network.get<double>("link_gbit_s", 0, at_least(0));
  run_at_rate(network.get<double>("rate_factor", 1, Limits{.above = 0}),
              link_gbit_s > 0 ? 8e-9 / link_gbit_s : measured_link, input);
  projection.basis = config.get<std::map<std::string, std::string>>("basis", {});
  return projection;
}

}  // namespace isobar
