// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/break_even.hpp>
#include <isobar/model/memory_plan.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <isobar/weather/experiment.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// The machines that an experiment is planned for. Rates are those that are reached, not
/// those of a data sheet.
struct PlannedMachines {
  int nodes = 0;                    ///< 0: gradients are not looked at
  int node_ranks = 4;               ///< ranks of a node; a multiple of the ranks a model
  std::vector<double> node_gbit_s;  ///< what leaves a node, each one a plan
  double latency_us = 30;           ///< of a collective
  double rank_tflop_s = 40;         ///< of a rank's passes
  double rank_gbyte_s = 1000;       ///< a rank's memory, read and written
};

/// Throws UsageError where a node's ranks are no whole models.
void check_machines(const PlannedMachines& machines, const Experiment& experiment);

/// What sums over links of one speed make of a step.
struct PlannedLink {
  double gbit_s = 0;                       ///< what leaves a node
  std::vector<CompressionChoice> choices;  ///< the first without compression
  std::string advice;                      ///< which of them pays, in one line
};

using CountingMethod = std::function<void(const std::string& method)>;

struct PlannedSums {
  size_t buckets = 0;
  double compute_s = 0;  ///< of a rank's passes
  std::vector<PlannedLink> links;
};

/// What the sums of the network's gradients over the nodes would do to a rank's step of those
/// `passes`, without compression and with each way to compress, for machines that check_machines()
/// took. `counting` gets each method before what it sends is counted, which takes seconds for large
/// networks, and the gradients' memory several times.
PlannedSums plan_sums(const Experiment& experiment, const WeatherGnn& network,
                      const MemoryPlan& passes, const PlannedMachines& machines,
                      const CountingMethod& counting = nullptr);

}  // namespace isobar
