// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>
#include <isobar/graph/halo_exchange.hpp>
#include <isobar/model/edge_index.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace isobar {

/// What a GraphConv reads of the edges: their state, [B or 1, E, C]; or, where
/// `embedding` is set, parts of its input, [1, E, k] each, which are embedded chunk
/// by chunk so that no state of all edges exists.
struct EdgeInput {
  std::vector<at::Tensor> parts;
  std::shared_ptr<const Mlp> embedding = nullptr;
};

/// Which edges, over which ranks, and what is kept of them.
struct ConvOptions {
  std::shared_ptr<const EdgeIndex> index;
  /// Brings the sources that other ranks own; null: there are none. It is used in
  /// forward and backward, so all ranks of the model run the same passes.
  std::shared_ptr<HaloExchange> exchange = nullptr;
  Activations activations = Activations::keep;
};

/// Messages along edges and their sums at the destinations:
///
///     m_ij = e_ij + MLP([x_i, x_j, e_ij]),  i the destination, j the source
///     a_i  = sum over j of m_ij
///
/// The MLP's first Linear is applied to graph nodes and edges before they are
/// gathered, W [x_i, x_j, e_ij] = (W_1 x)_i + (W_2 x)_j + W_3 e_ij: C^2 products an
/// edge instead of 3 C^2, and no tensor of 3 C columns. Its weight stays one
/// [C, 3C] parameter. The projected sources are what travels between ranks; while
/// they do, the edges that need none of them are computed.
///
/// Edges go through a chunk of destinations at a time (see EdgeIndex). Sums run
/// over contiguous edges in their order, whatever the number of threads or ranks.
///
/// Of inputs that do not depend on the sample (embedded mesh attributes), a
/// batch of 1 stands for all samples. Differentiable once.
class GraphConv : public torch::nn::Module {
 public:
  explicit GraphConv(int64_t channels);

  struct Result {
    at::Tensor messages;  ///< [B, E, C], also the new state of the edges; undefined unless wanted
    at::Tensor sums;      ///< [B, N_destination, C]
  };

  enum class Messages { wanted, unwanted };

  /// `sources` [B, own sources, C] and `destinations` [B, N_destination, C].
  Result forward(const at::Tensor& sources, const at::Tensor& destinations, const EdgeInput& edges,
                 const ConvOptions& options, Messages messages = Messages::wanted) const;

 private:
  std::shared_ptr<Mlp> edge_mlp_;
};

/// GraphConv and the update of its destinations, x_i + MLP([x_i, a_i]).
/// Parameters: conv.edge_mlp and node_mlp.
class MessageBlock : public torch::nn::Module {
 public:
  explicit MessageBlock(int64_t channels);

  struct Result {
    at::Tensor destinations;  ///< [B, N_destination, C]
    at::Tensor edges;         ///< [B, E, C]; undefined unless wanted
  };

  /// Shapes as in GraphConv.
  Result forward(const at::Tensor& sources, const at::Tensor& destinations, const EdgeInput& edges,
                 const ConvOptions& options,
                 GraphConv::Messages messages = GraphConv::Messages::wanted) const;

  /// The update of graph nodes that receive nothing, by the same MLP:
  /// x + MLP([x, x]).
  at::Tensor update_sources(const at::Tensor& x, Activations activations) const;

 private:
  std::shared_ptr<GraphConv> conv_;
  std::shared_ptr<Mlp> node_mlp_;
};

}  // namespace isobar
