// SPDX-License-Identifier: Apache-2.0
// What passes between nodes in a pre-flight: exchanges in pairs, which tell one slow node from the
// others, and readings of clocks.
#pragma once

#include <isobar/bench/preflight.hpp>
#include <isobar/comm/communicator.hpp>

#include <functional>
#include <string>
#include <vector>

namespace isobar::bench {

/// Which ranks are on which node. Nodes are in the order of their first ranks.
struct NodeLayout {
  std::vector<std::string> names;
  std::vector<std::vector<int>> ranks;  ///< by node
  std::vector<int> node_of;             ///< by rank
};
NodeLayout lay_out_nodes(const std::vector<std::string>& node_of_rank);

/// A tournament: whom each node meets in each round, -1 for nobody. Each meets another one in every
/// round, all of the others where there are rounds enough.
std::vector<std::vector<int>> plan_rounds(int nodes, int most_rounds);

/// This rank's exchanges with its like on other nodes.
struct ExchangeReport {
  std::vector<double> gbit_s;  ///< each way, by round; 0 for none
  double latency_s = 0;        ///< of the quickest; 0 for none
  std::string problem;         ///< of what arrived
};

/// Every rank exchanges with the rank of its place on the node that its own one meets, all pairs at
/// once, so that a node's ranks fill its link together. Collective; blocks.
ExchangeReport exchange_between_nodes(Communicator& comm, const NodeLayout& layout,
                                      const PreflightOptions& options);

/// One node's clock, against rank 0's.
struct ClockReading {
  double offset_s = 0;
  double error_s = 0;
};

/// On rank 0 a reading for each node; elsewhere none. `clock_s` is this rank's. Collective; blocks.
std::vector<ClockReading> read_clocks(Communicator& comm, const NodeLayout& layout,
                                      const std::function<double()>& clock_s);

}  // namespace isobar::bench
