// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/model/graph_conv.hpp>
#include <ATen/core/Tensor.h>

namespace isobar::detail {

/// [B, E, C]: edges + nodes[:, row] of both ends. Not differentiable.
at::Tensor gather_add_rows(const at::Tensor& edges, const at::Tensor& destinations,
                           const at::Tensor& destination_row, const at::Tensor& sources,
                           const at::Tensor& source_row);

/// [B, E, C]: nodes[:, row]. Not differentiable.
at::Tensor gather_rows(const at::Tensor& nodes, const at::Tensor& row);

/// [B, N, C]: for each node the sum of its edges, in their order. Not
/// differentiable.
at::Tensor sum_rows(const at::Tensor& edges, const EdgeIndex::End& end);

}  // namespace isobar::detail
