// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>

namespace isobar {

/// [K] int64: the nodes whose great-circle distance to some point of the region is
/// at most `margin_degrees`, in order.
at::Tensor rows_near(const Positions& nodes, const Grid& region, double margin_degrees);

}  // namespace isobar
