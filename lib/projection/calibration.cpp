// SPDX-License-Identifier: Apache-2.0
// Measured steps become the input of a projection. Reports hold the times of the slowest rank, so
// they are divided by what the slowest of as many ranks is expected to take; otherwise a projection
// would count the same jitter twice. What the transport takes from the cores that compute is what
// a measured step took longer than its parts by themselves explain.
#include "projection/calibration.hpp"

#include "projection/random_draws.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/core/text.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace isobar {
namespace {

using nlohmann::json;

double number_of(const json& row, const std::string& field) {
  ISOBAR_CHECK(row.is_object() && row.contains(field) && row.at(field).is_number(),
               "step: the report's row has no number '", field, "'");
  return row.at(field).get<double>();
}

/// Nodes of the report; checks that they are whole.
int nodes_of(const json& row, const ProjectionInput& input) {
  const int ranks = static_cast<int>(number_of(row, "ranks"));
  const int nodes = ranks / input.node_ranks;
  ISOBAR_CHECK(nodes > 0 && nodes * input.node_ranks == ranks, "step: the report's ", ranks,
               " ranks are no whole number of nodes of ", input.node_ranks, " (ranks.per_node)");
  return nodes;
}

double slower_than_median(const ProjectionInput& input, int nodes) {
  return expected_slowest(input.jitter, static_cast<double>(nodes) * input.compute_ranks);
}

StepPrediction simulate(const ProjectionInput& input, int nodes, double rate) {
  const auto seconds = [&](std::int64_t bytes) {
    return input.network.model.seconds(bytes, nodes, input.node_ranks);
  };
  return simulate_staged_step(input.compute, input.buckets,
                              {.seconds = seconds, .compute_rate = rate});
}

StagedBucket bucket_of(const json& parts, double slower) {
  StagedBucket bucket{.ready_s = number_of(parts, "ready_s") / slower,
                      .stages = {},
                      .complete_s = number_of(parts, "complete_s") / slower};
  for (const auto& stage : parts.at("stages")) {
    bucket.stages.push_back({.compute_s = number_of(stage, "compute_s") / slower,
                             .bytes = static_cast<std::int64_t>(number_of(stage, "bytes"))});
  }
  return bucket;
}

std::vector<StagedBucket> buckets_of_parts(const json& parts, double slower) {
  std::vector<StagedBucket> buckets;
  for (const auto& bucket : parts.at("buckets")) buckets.push_back(bucket_of(bucket, slower));
  return buckets;
}

const json& row_of_method(const json& rows, const std::string& method) {
  std::vector<std::string> names;
  for (const auto& row : rows) {
    ISOBAR_CHECK(row.contains("parts"),
                 "step.compression: the report's rows have no 'parts'; make "
                 "it with this version's isobar bench compression --json");
    if (row.value("name", "") == method || row.value("method", "") == method) return row;
    names.push_back(row.value("name", ""));
  }
  throw UsageError("step.method: '" + method + "' is not in the report; it has " +
                   join_words(names));
}

/// Of the plain stream between nodes that was measured beside; 0 where none was.
double link_byte_s(const json& row) {
  const bool has_link = row.contains("goodput_gbit_s") && row.at("goodput_gbit_s").is_number();
  return has_link ? 8e-9 / number_of(row, "goodput_gbit_s") : 0;
}

/// Sums of a few MiB can seem faster than their link, which lets bursts through; many of them one
/// after another are not.
NetworkFit network_of_row(const json& row, int nodes) {
  const auto& parts = row.at("parts");
  NetworkFit fit;
  const double rate = number_of(parts, "bytes_per_s");
  fit.model.hop_s = nodes > 1 ? number_of(parts, "latency_s") / std::log2(nodes) : 0;
  fit.model.byte_s = rate > 0 ? std::max(1 / rate, link_byte_s(row)) : 0;
  return fit;
}

json median_of(const std::vector<json>& values) {
  const auto& first = values.front();
  const auto same = [&](const json& value) {
    return value.type() == first.type() || (value.is_number() && first.is_number());
  };
  bool alike = std::all_of(values.begin(), values.end(), same);
  if (first.is_structured()) {
    alike = alike && std::all_of(values.begin(), values.end(),
                                 [&](const json& value) { return value.size() == first.size(); });
  }
  ISOBAR_CHECK(alike,
               "step.repeats: the reports are not alike; they have to be of one command, with the "
               "same buckets");
  if (first.is_number()) {
    std::vector<double> numbers;
    for (const auto& value : values) numbers.push_back(value.get<double>());
    return summarize(std::move(numbers)).median;
  }
  if (!first.is_structured()) return first;
  json result = first;
  for (auto item = result.begin(); item != result.end(); ++item) {
    std::vector<json> parts;
    for (const auto& value : values) {
      if (!first.is_object()) {
        parts.push_back(value.at(static_cast<std::size_t>(item - result.begin())));
      } else if (value.contains(item.key())) {
        parts.push_back(value.at(item.key()));
      }
    }
    ISOBAR_CHECK(parts.size() == values.size(), "step.repeats: a report has no '", item.key(), "'");
    *item = median_of(parts);
  }
  return result;
}

/// Of their logarithms.
double deviation_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  double sum = 0, squares = 0;
  for (const double value : values) sum += std::log(value);
  const double mean = sum / static_cast<double>(values.size());
  for (const double value : values) squares += std::pow(std::log(value) - mean, 2);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

/// What the gradients' sums take on the report's wire, one after another.
double wire_seconds(const json& parts) {
  double sum = 0;
  for (const auto& bucket : parts.at("buckets")) {
    for (const auto& stage : bucket.at("stages")) {
      sum += number_of(parts, "latency_s") +
             number_of(stage, "bytes") / number_of(parts, "bytes_per_s");
    }
  }
  return sum;
}

}  // namespace

json median_report(const std::vector<json>& reports) {
  return reports.size() == 1 ? reports.front() : median_of(reports);
}

Repeatability repeatability_of_compression(const std::vector<json>& reports) {
  std::vector<double> compute, network;
  for (const auto& rows : reports) {
    const auto& parts = row_of_method(rows, "none").at("parts");
    compute.push_back(number_of(parts, "forward_s") + number_of(parts, "backward_s") +
                      number_of(parts, "optimizer_s"));
    network.push_back(number_of(parts, "bytes_per_s") > 0 ? wire_seconds(parts) : 1);
  }
  return {.compute = deviation_of(compute),
          .network = deviation_of(network),
          .reports = static_cast<int>(reports.size())};
}

Repeatability repeatability_of_step(const std::vector<json>& reports) {
  std::vector<double> compute;
  for (const auto& rows : reports) {
    const auto& row = rows.front();
    compute.push_back(number_of(row, "compute_forward_s") + number_of(row, "compute_backward_s") +
                      number_of(row, "optimizer_s"));
  }
  return {
      .compute = deviation_of(compute), .network = 0, .reports = static_cast<int>(reports.size())};
}

double expected_slowest(const Jitter& jitter, double ranks) {
  const double both = std::hypot(jitter.between_ranks, jitter.between_steps);
  return std::exp(both * normal_quantile(-std::expm1(std::log(0.5) / ranks)));
}

std::vector<StagedBucket> merge_buckets(const std::vector<StagedBucket>& buckets,
                                        const std::vector<std::int64_t>& gradient_bytes,
                                        std::int64_t cap_bytes) {
  std::vector<StagedBucket> merged;
  std::int64_t held = 0;
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    if (merged.empty() || held >= cap_bytes) {
      merged.push_back(buckets[b]);
      held = gradient_bytes[b];
      continue;
    }
    auto& last = merged.back();
    held += gradient_bytes[b];
    last.ready_s = std::max(last.ready_s, buckets[b].ready_s);
    last.complete_s += buckets[b].complete_s;
    for (std::size_t s = 0; s < last.stages.size(); ++s) {
      last.stages[s].compute_s += buckets[b].stages[s].compute_s;
      last.stages[s].bytes += buckets[b].stages[s].bytes;
    }
  }
  return merged;
}

double fit_compute_rate(const ProjectionInput& input, int nodes,
                        const std::function<double(const StepPrediction&)>& value, double wanted) {
  double least = kLeastComputeRate, most = 1;
  if (value(simulate(input, nodes, most)) >= wanted) return most;
  if (value(simulate(input, nodes, least)) <= wanted) return least;
  for (int i = 0; i < 60; ++i) {
    const double middle = (least + most) / 2;
    (value(simulate(input, nodes, middle)) > wanted ? least : most) = middle;
  }
  return (least + most) / 2;
}

Calibration take_step(const json& row, std::int64_t cap_bytes, ProjectionInput& input) {
  const int nodes = nodes_of(row, input);
  const double slower = slower_than_median(input, nodes);
  input.compute = {.forward_s = number_of(row, "compute_forward_s") / slower,
                   .backward_s = number_of(row, "compute_backward_s") / slower,
                   .optimizer_s = number_of(row, "optimizer_s") / slower,
                   .buckets = {}};
  ISOBAR_CHECK(row.contains("buckets") && !row.at("buckets").empty(),
               "step.report: the row has no buckets; measure a step that sums gradients");
  std::vector<std::int64_t> gradients;
  double all = 0;
  for (const auto& bucket : row.at("buckets")) {
    gradients.push_back(static_cast<std::int64_t>(number_of(bucket, "bytes")));
    all += number_of(bucket, "bytes");
  }
  // What is handed to collectives: less than the gradients where they travel in 16 bits.
  const double share = number_of(row, "payload_bytes") / all;
  for (std::size_t b = 0; b < gradients.size(); ++b) {
    const auto bytes = static_cast<std::int64_t>(share * static_cast<double>(gradients[b]));
    input.buckets.push_back({.ready_s = number_of(row.at("buckets")[b], "ready_s") / slower,
                             .stages = {{.compute_s = 0, .bytes = bytes}}});
  }
  input.buckets = merge_buckets(input.buckets, gradients, cap_bytes);
  return {.nodes = nodes,
          .measured_s = number_of(row, "backward_s") / slower,
          .link_byte_s = link_byte_s(row)};
}

Calibration take_compression(const json& rows, const std::string& method, std::int64_t cap_bytes,
                             bool has_network, ProjectionInput& input) {
  const auto& row = row_of_method(rows, method);
  const auto& plain = row_of_method(rows, "none");
  const int nodes = nodes_of(row, input);
  const double slower = slower_than_median(input, nodes);
  const auto& parts = row.at("parts");
  input.compute = {.forward_s = number_of(parts, "forward_s") / slower,
                   .backward_s = number_of(parts, "backward_s") / slower,
                   .optimizer_s = number_of(parts, "optimizer_s") / slower,
                   .buckets = {}};
  if (!has_network) {
    input.network = network_of_row(row, nodes);
    input.known_nodes = nodes;
  }
  // Without compression a bucket sends its gradients.
  const auto full = buckets_of_parts(plain.at("parts"), slower);
  std::vector<std::int64_t> gradients;
  for (const auto& bucket : full) gradients.push_back(bucket.stages.front().bytes);
  Calibration calibration{
      .nodes = nodes, .measured_s = 0, .is_whole_step = true, .link_byte_s = link_byte_s(row)};
  if (nodes > 1 && plain.contains("measured_step_s") && plain.at("measured_step_s").is_number()) {
    // Of the step that was measured, with the buckets that it had.
    auto measured = input;
    if (!has_network) measured.network = network_of_row(plain, nodes);
    measured.buckets = full;
    calibration.measured_s = number_of(plain, "measured_step_s") / slower;
    input.compute_rate = calibrated_rate(measured, calibration);
    calibration.measured_s = 0;
  }
  input.buckets = buckets_of_parts(parts, slower);
  if (nodes > 1 && row.contains("measured_step_s") && row.at("measured_step_s").is_number()) {
    input.meeting_s = number_of(row, "measured_step_s") / slower -
                      simulate(input, nodes, input.compute_rate).step_s;
    input.meeting_ranks = nodes * input.node_ranks;
  }
  input.buckets = merge_buckets(input.buckets, gradients, cap_bytes);
  return calibration;
}

double calibrated_rate(const ProjectionInput& input, const Calibration& calibration) {
  if (calibration.nodes == 1 || calibration.measured_s <= 0) return input.compute_rate;
  const auto& compute = input.compute;
  const auto value = [&](const StepPrediction& step) {
    if (calibration.is_whole_step) return step.step_s;
    return step.step_s - step.exposed_comm_s - compute.forward_s - compute.optimizer_s;
  };
  return fit_compute_rate(input, calibration.nodes, value, calibration.measured_s);
}

}  // namespace isobar
