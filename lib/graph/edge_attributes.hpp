// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>

namespace isobar {

/// The attributes that EdgeSet documents, [E, 3] float32, of edges between
/// positions: `source` and `destination` [E] index into them.
at::Tensor edge_attributes(const Positions& sources, const Positions& destinations,
                           const at::Tensor& source, const at::Tensor& destination);

}  // namespace isobar
