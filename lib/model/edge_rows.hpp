// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/model/graph_conv.hpp>
#include <ATen/core/Tensor.h>

namespace isobar::detail {

/// [B, E, C]: edges + destinations of each edge's destination + sources of its
/// source. All have the same batch size; any may be a batch-expanded view.
at::Tensor gather_and_add(const at::Tensor& edges, const at::Tensor& destinations,
                          const at::Tensor& sources, const EdgeIndex& index);

/// [B, N, C]: for each destination the sum of `edges` [B, E, C] that end in it.
at::Tensor sum_at_destinations(const at::Tensor& edges, const EdgeIndex& index);

}  // namespace isobar::detail
