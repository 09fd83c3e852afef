// SPDX-License-Identifier: Apache-2.0
// What an allreduce takes by bytes and nodes, fitted to measurements on a few nodes. Functions of
// their arguments.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace isobar {

/// An allreduce of n = nodes * node_ranks ranks, each of which sends x = 2 (n - 1) / n * bytes:
///
///     seconds = hop_s * log2(nodes) + x * (byte_s + spread_byte_s * (1 - 1 / nodes))
///             + fill_s * sqrt(bytes) * log2(nodes)
///
/// The first term is a tree's depth, the second the wire and what is lost where traffic leaves a
/// node and its neighbours. The third is how a pipeline of that depth fills: pieces of the best
/// size take 2 sqrt(depth * latency * bytes / rate) more than the wire (Thakur, Rabenseifner and
/// Gropp, IJHPCA 19(1), 2005, have the costs of the algorithms). One rank takes no time.
struct NetworkModel {
  double hop_s = 0;          ///< seconds of each doubling of the nodes
  double byte_s = 0;         ///< seconds a byte that a rank sends
  double spread_byte_s = 0;  ///< more of them, of the share that leaves a node
  double fill_s = 0;         ///< seconds of the square root of a byte and a doubling

  /// Throws UsageError for negative bytes and less than a node or a rank.
  double seconds(std::int64_t bytes, int nodes, int node_ranks) const;
};

/// A measured allreduce.
struct NetworkSample {
  int nodes = 2;
  int node_ranks = 1;
  std::int64_t bytes = 0;
  double seconds = 0;
};

/// A model and how well it is known.
struct NetworkFit {
  NetworkModel model;
  /// Root mean square of (predicted - measured) / measured over the samples, for the degrees of
  /// freedom that are left; 0 where none is.
  double residual = 0;
  /// The lower triangle L of L L^T, the covariance of the four coefficients in the order of
  /// NetworkModel.
  std::array<std::array<double, 4>, 4> spread = {};

  /// The model that a draw of standard normal numbers gives; none of its coefficients is negative.
  NetworkModel draw(const std::function<double()>& normal) const;
};

/// The coefficients, none of them negative, with the least sum of squared relative errors, so that
/// short messages count as much as long ones: of all sets of terms that have positive coefficients
/// only, the best. With one number of nodes in all samples only the wire and one latency can be
/// told, and fill_s is left at 0. Throws UsageError for fewer than two sizes, a single node and
/// values that are not positive.
NetworkFit fit_network(const std::vector<NetworkSample>& samples);

/// The network of which only a node's rate is known, in bits a second, and the latency of a
/// doubling. A ring leaves each node once, so that each byte that a rank sends has the node's whole
/// rate; nothing is lost and nothing fills. Throws UsageError for a rate that is not positive.
NetworkModel ideal_network(double node_bit_s, double hop_s);

}  // namespace isobar
