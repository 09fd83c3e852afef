// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/graph_conv.hpp>
#include <ATen/ATen.h>

#include "model/edge_messages.hpp"

namespace isobar {

GraphConv::GraphConv(int64_t channels) {
  const MlpOptions options{.in = 3 * channels, .hidden = channels, .out = channels};
  edge_mlp_ = register_module("edge_mlp", std::make_shared<Mlp>(options));
}

GraphConv::Result GraphConv::forward(const at::Tensor& sources, const at::Tensor& destinations,
                                     const EdgeInput& edges, const ConvOptions& options,
                                     Messages messages) const {
  const int64_t wanted = options.index->offsets().size(0) - 1,
                count = options.index->source().size(0);
  ISOBAR_CHECK(destinations.size(1) == wanted && !edges.parts.empty() &&
                   edges.parts.front().size(1) == count,
               "GraphConv: the index is of ", wanted, " destinations and ", count, " edges, got ",
               destinations.sizes(), " and ",
               edges.parts.empty() ? at::IntArrayRef() : edges.parts.front().sizes());
  MessageInputs inputs{sources, destinations, edges.parts, edge_mlp_->ordered_parameters(), {}};
  if (edges.embedding) inputs.embedding = edges.embedding->ordered_parameters();
  return edge_messages(
      inputs, options.index, options.exchange,
      {.activations = options.activations, .messages = messages == Messages::wanted});
}

MessageBlock::MessageBlock(int64_t channels) {
  conv_ = register_module("conv", std::make_shared<GraphConv>(channels));
  const MlpOptions options{.in = 2 * channels, .hidden = channels, .out = channels};
  node_mlp_ = register_module("node_mlp", std::make_shared<Mlp>(options));
}

MessageBlock::Result MessageBlock::forward(const at::Tensor& sources,
                                           const at::Tensor& destinations, const EdgeInput& edges,
                                           const ConvOptions& options,
                                           GraphConv::Messages messages) const {
  const auto result = conv_->forward(sources, destinations, edges, options, messages);
  return {node_mlp_->forward({destinations, result.sums},
                             {.residual = true, .activations = options.activations}),
          result.messages};
}

at::Tensor MessageBlock::update_sources(const at::Tensor& x, Activations activations) const {
  return node_mlp_->forward_repeated(x, {.residual = true, .activations = activations});
}

}  // namespace isobar
