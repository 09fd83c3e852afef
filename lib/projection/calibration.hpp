// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/projection/projection.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// What is left of computation beside collectives at the least, whatever was measured.
constexpr double kLeastComputeRate = 0.05;

/// Median of how much longer the slowest of `ranks` takes than a rank of median speed.
double expected_slowest(const Jitter& jitter, double ranks);

/// Neighbouring buckets together until their gradients, `gradient_bytes` by bucket, reach
/// `cap_bytes`, as plan_buckets() fills one: the latest says when all are ready, and their stages
/// add up.
std::vector<StagedBucket> merge_buckets(const std::vector<StagedBucket>& buckets,
                                        const std::vector<std::int64_t>& gradient_bytes,
                                        std::int64_t cap_bytes);

/// The compute_rate with which `value` of the simulated step is `wanted`: 1 where it is as large
/// already, and at least kLeastComputeRate. `value` must not grow with the rate.
double fit_compute_rate(const ProjectionInput& input, int nodes,
                        const std::function<double(const StepPrediction&)>& value, double wanted);

/// How a step was measured.
struct Calibration {
  int nodes = 1;               ///< 1 for a report without communication
  double measured_s = 0;       ///< the step or its backward pass; 0: not measured
  bool is_whole_step = false;  ///< of measured_s
  double link_byte_s = 0;      ///< of a plain stream over the node's link; 0: not measured
};

/// One report of several calls of the same command: of each number the median. Throws UsageError
/// for reports that are not alike but for their numbers.
nlohmann::json median_report(const std::vector<nlohmann::json>& reports);

/// How far the reports' computation, and what their wires take for the step's gradients, differ
/// from each other. A report of `isobar bench step` tells no wire.
Repeatability repeatability_of_compression(const std::vector<nlohmann::json>& reports);
Repeatability repeatability_of_step(const std::vector<nlohmann::json>& reports);

/// Fills in compute and buckets from a row of `isobar bench step --json`, whose times are those of
/// its slowest rank. Jitter and ranks are there already. Throws UsageError for a row without what
/// is needed, as the next does.
Calibration take_step(const nlohmann::json& row, std::int64_t cap_bytes, ProjectionInput& input);

/// The same from the rows of `isobar bench compression --json`, for one of its methods, by name or
/// method; the network too, unless `has_network`. Where the steps were measured, the rate of
/// computation is that of the step without compression, and what the method's own step took longer
/// than its parts, or shorter, is its meeting_s.
Calibration take_compression(const nlohmann::json& rows, const std::string& method,
                             std::int64_t cap_bytes, bool has_network, ProjectionInput& input);

/// The compute_rate of the measured step.
double calibrated_rate(const ProjectionInput& input, const Calibration& calibration);

}  // namespace isobar
