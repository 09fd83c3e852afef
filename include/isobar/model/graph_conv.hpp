// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>

namespace isobar {

/// Which rows an edge set joins, in the forms that sums over its edges need.
///
/// The index tensors are buffers: `to(device)` of any module that holds this
/// one moves them, and `to(dtype)` leaves them whole numbers. Being no
/// parameters, they are in no optimizer; a checkpoint need not hold them, since
/// they follow from the mesh.
class EdgeIndex : public torch::nn::Module {
 public:
  explicit EdgeIndex(const EdgeSet& edges);

  /// One end of the edges.
  struct End {
    at::Tensor row;      ///< [E] int64, the graph node at this end of each edge
    at::Tensor order;    ///< [E] int64, edges sorted by `row`; undefined if they are
    at::Tensor offsets;  ///< [N + 1] int64, where each node's edges start in that order
  };

  const End& source() const { return source_; }
  const End& destination() const { return destination_; }

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

 private:
  End source_;
  End destination_;
};

/// Messages along edges and their sums at the destinations:
///
///     m_ij = e_ij + MLP([x_i, x_j, e_ij]),  i the destination, j the source
///     a_i  = sum over j of m_ij
///
/// The MLP's first Linear is applied to nodes and edges before they are
/// gathered, W [x_i, x_j, e_ij] = (W_1 x)_i + (W_2 x)_j + W_3 e_ij: C^2 products
/// an edge instead of 3 C^2, and no tensor of 3 C columns. Its weight stays one
/// [C, 3C] parameter. Sums run over contiguous edges in their order, whatever
/// the number of threads, so that results repeat to the bit.
///
/// Of inputs that do not depend on the sample (embedded mesh attributes), a
/// batch of 1 stands for all samples. Differentiable once.
class GraphConv : public torch::nn::Module {
 public:
  explicit GraphConv(int64_t channels);

  struct Result {
    at::Tensor messages;  ///< [B, E, C], also the new state of the edges
    at::Tensor sums;      ///< [B, N_destination, C]
  };

  /// `sources` [B, N_source, C], `destinations` [B, N_destination, C] and
  /// `edges` [B, E, C], where B may be 1 in some of them.
  Result forward(const at::Tensor& sources, const at::Tensor& destinations, const at::Tensor& edges,
                 const EdgeIndex& index) const;

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
    at::Tensor edges;         ///< [B, E, C]
  };

  /// Shapes as in GraphConv.
  Result forward(const at::Tensor& sources, const at::Tensor& destinations, const at::Tensor& edges,
                 const EdgeIndex& index) const;

  /// The update of graph nodes that receive nothing, by the same MLP:
  /// x + MLP([x, x]).
  at::Tensor update_sources(const at::Tensor& x) const;

 private:
  std::shared_ptr<GraphConv> conv_;
  std::shared_ptr<Mlp> node_mlp_;
};

}  // namespace isobar
