// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/halo_exchange.hpp>
#include <isobar/model/graph_conv.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

namespace isobar::detail {

/// What a GraphConv computes from; see there.
struct MessageInputs {
  at::Tensor sources;       ///< [B, own sources, C]
  at::Tensor destinations;  ///< [B, N, C]
  /// [B or 1, E, C]: the edges' state; or, with an embedding, its input in parts [1, E, k].
  std::vector<at::Tensor> edges;
  std::vector<at::Tensor> edge_mlp;   ///< an Mlp's parameters
  std::vector<at::Tensor> embedding;  ///< of the edges; empty for none
};

struct MessageOptions {
  Activations activations = Activations::keep;
  bool messages = true;  ///< wanted beside their sums
};

/// Messages [B, E, C] (undefined unless wanted) and their sums [B, N, C]. Differentiable once.
/// `exchange` may be null: all sources are own.
GraphConv::Result edge_messages(const MessageInputs& inputs,
                                const std::shared_ptr<const EdgeIndex>& index,
                                const std::shared_ptr<HaloExchange>& exchange,
                                const MessageOptions& options);

}  // namespace isobar::detail
