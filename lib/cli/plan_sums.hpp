// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/experiment.hpp"

#include <isobar/model/memory_plan.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <vector>

namespace CLI {
class App;
}

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

void add_machine_options(CLI::App& app, PlannedMachines& machines);

/// Throws UsageError where a node's ranks are no whole models.
void check_machines(const PlannedMachines& machines, const Experiment& experiment);

/// What the sums of the network's gradients over the nodes would do to a rank's step of those
/// `passes`, without compression and with each way to compress, for machines that check_machines()
/// took. Prints a table unless told not to; gives its rows.
nlohmann::json plan_sums(const Experiment& experiment, const WeatherGnn& network,
                         const MemoryPlan& passes, const PlannedMachines& machines, bool prints);

}  // namespace isobar
