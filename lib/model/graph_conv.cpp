// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/graph_conv.hpp>
#include <ATen/ATen.h>

#include <algorithm>

#include "model/edge_rows.hpp"

namespace isobar {
namespace {

at::Tensor with_batch(const at::Tensor& x, int64_t batch) { return x.expand({batch, -1, -1}); }

}  // namespace

GraphConv::GraphConv(int64_t channels) {
  const MlpOptions options{.in = 3 * channels, .hidden = channels, .out = channels};
  edge_mlp_ = register_module("edge_mlp", std::make_shared<Mlp>(options));
}

GraphConv::Result GraphConv::forward(const at::Tensor& sources, const at::Tensor& destinations,
                                     const at::Tensor& edges, const EdgeIndex& index) const {
  const int64_t channels = edges.size(2);
  const int64_t batch = std::max({sources.size(0), destinations.size(0), edges.size(0)});
  // Projected before they are expanded: what all samples share is projected once.
  const at::Tensor first =
      detail::gather_and_add(with_batch(edge_mlp_->project(edges, 2 * channels), batch),
                             with_batch(edge_mlp_->project(destinations, 0), batch),
                             with_batch(edge_mlp_->project(sources, channels), batch), index);
  const at::Tensor messages = edge_mlp_->from_projection(first) + edges;
  return {messages, detail::sum_at_destinations(messages, index)};
}

MessageBlock::MessageBlock(int64_t channels) {
  conv_ = register_module("conv", std::make_shared<GraphConv>(channels));
  const MlpOptions options{.in = 2 * channels, .hidden = channels, .out = channels};
  node_mlp_ = register_module("node_mlp", std::make_shared<Mlp>(options));
}

MessageBlock::Result MessageBlock::forward(const at::Tensor& sources,
                                           const at::Tensor& destinations, const at::Tensor& edges,
                                           const EdgeIndex& index) const {
  const auto [messages, sums] = conv_->forward(sources, destinations, edges, index);
  const at::Tensor first =
      node_mlp_->project(destinations, 0) + node_mlp_->project(sums, sums.size(2));
  return {destinations + node_mlp_->from_projection(first), messages};
}

at::Tensor MessageBlock::update_sources(const at::Tensor& x) const {
  return x + node_mlp_->from_projection(node_mlp_->project_repeated(x));
}

}  // namespace isobar
