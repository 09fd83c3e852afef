// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/subject.hpp>

#include <string>
#include <vector>

namespace isobar::bench {

/// What the ranks' network carries without any library: the payload rate of one
/// TCP connection between two sockets that block.
struct PlainStream {
  /// Distinct nodes that the ranks are on. A network namespace is a node.
  int nodes = 1;
  /// Median of three streams; 0 where there was none.
  double gbit_s = 0;
  /// "network" or "loopback"; empty where there was none.
  std::string path;
  /// Why there was none, on every rank; empty where there was one, and where a
  /// single rank or `seconds` = 0 asks for none.
  std::string problem;
};

/// Streams from rank 0 to the first rank on another node or, where all share one,
/// to rank 1 over loopback, for about `seconds` each and after a pause in which
/// buffers empty. The others wait meanwhile. Addresses are those of rank 0's
/// interfaces, the first that answers. Collective; blocks, each step for some
/// seconds at most; does not throw where no connection comes about.
PlainStream measure_plain_stream(Subject& subject, double seconds);

/// The rank that rank 0 streams to, for the ranks' nodes: the first on another
/// node, else 1; 0 where rank 0 is alone.
int choose_partner(const std::vector<std::string>& nodes);

}  // namespace isobar::bench
