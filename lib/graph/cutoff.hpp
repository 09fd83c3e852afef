// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>

namespace isobar {

/// The chord of cutoff_edges: `factor` times the largest distance of a hidden
/// node to its nearest other one.
double cutoff_radius(const Positions& hidden, double factor);

/// [V] int64: how many data nodes are closer to each hidden node than `chord`.
at::Tensor count_within(const Positions& data, const Positions& hidden, double chord);

}  // namespace isobar
