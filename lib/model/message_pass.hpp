// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/halo_exchange.hpp>
#include <isobar/model/edge_index.hpp>
#include <isobar/model/graph_conv.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "model/mlp_core.hpp"
#include "model/mlp_kernels.hpp"

namespace isobar {

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

/// Both passes over the edges of a GraphConv, chunk by chunk. Not differentiable: one object
/// computes one pass. Names: `near` is a destination's projection, `far` a source's, which other
/// ranks may have made.
class MessagePass {
 public:
  /// All inputs are contiguous. `exchange` may be null: all sources are own.
  MessagePass(MessageInputs inputs, const EdgeIndex& index, HaloExchange* exchange,
              const MessageOptions& options);

  /// What the forward pass leaves to the backward one: with Activations::keep the tape of all
  /// edges, otherwise the projections that other ranks sent.
  struct Kept {
    MlpTape tape;
    at::Tensor halo;
  };
  GraphConv::Result forward(Kept& kept);

  /// Gradients at the messages (undefined: zero) and at their sums; which of the edges' parts want
  /// one.
  struct Given {
    at::Tensor messages, sums;
    std::vector<bool> wanted;
  };
  /// The inputs' gradients, where MessageInputs has the inputs; undefined where not wanted.
  MessageInputs backward(const Kept& kept, const Given& given);

 private:
  struct Gradients;

  bool keeps() const { return options_.activations == Activations::keep; }
  int64_t channels() const { return core_.hidden(); }
  int64_t own() const { return in_.sources.size(1); }
  /// Several samples add to the gradient of one state.
  bool shares_state() const { return in_.edges[0].size(0) < samples_; }
  int64_t halo_rows() const { return exchange_ ? exchange_->plan().halo() : 0; }

  MlpTape rows_of(const MlpTape& kept, const MlpTape& scratch, const EdgeChunk& chunk,
                  int64_t sample) const;
  at::Tensor project_sources() const;
  std::vector<at::Tensor> parts_of(const EdgeChunk& chunk) const;
  at::Tensor state_of(const EdgeChunk& chunk, int64_t sample) const;
  void embed(const EdgeChunk& chunk);
  void recompute_embedding(const EdgeChunk& chunk);
  void start(const EdgeChunk& chunk, int64_t sample, const at::Tensor& far, at::Tensor& rows,
             at::Tensor& activated, GeluLeaves leaves);
  void make_scratch();
  void make_backward_scratch();
  Gradients start_gradients(const Given& given) const;
  void chunk_backward(const EdgeChunk& chunk, const MlpTape& kept, const at::Tensor& far,
                      Gradients& gradients);
  void sample_backward(const EdgeChunk& chunk, int64_t sample, const MlpTape& kept,
                       const at::Tensor& far, Gradients& gradients);
  void embedding_backward(const EdgeChunk& chunk, Gradients& gradients);
  void finish_sources(Gradients& gradients);

  MessageInputs in_;
  const EdgeIndex& index_;
  HaloExchange* exchange_;
  MessageOptions options_;
  at::TensorOptions like_;
  MlpCore core_;
  std::optional<MlpCore> embedding_;
  int64_t samples_, edges_, chunk_edges_;

  // Rows of one chunk.
  at::Tensor near_, activated_, state_, message_;
  MlpTape tape_, embedding_tape_;
  RecomputedMlp recomputed_, recomputed_embedding_;
  MlpScratch scratch_;
};

}  // namespace isobar
