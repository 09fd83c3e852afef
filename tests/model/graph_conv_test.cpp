// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/graph_conv.hpp>
#include <isobar/model/initialize.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "model/tiny_mesh.hpp"

namespace isobar::graph_conv_test {
namespace {

constexpr int64_t kChannels = 5;

at::Tensor values(std::vector<int64_t> shape, double step) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, at::kDouble).mul(step).sin().view(shape);
}

struct Inputs {
  at::Tensor sources, destinations, edges;

  Inputs(const EdgeSet& set, int64_t batch)
      : sources(values({batch, set.sources, kChannels}, 0.7)),
        destinations(values({batch, set.destinations, kChannels}, 1.1)),
        edges(values({1, set.size(), kChannels}, 1.3)) {
    for (at::Tensor* tensor : {&sources, &destinations, &edges}) tensor->requires_grad_();
  }
};

/// The layer's formula on the concatenation, by LibTorch's own operations.
at::Tensor reference_sums(const GraphConv& conv, const Inputs& in, const EdgeSet& set) {
  const auto p = conv.named_parameters();
  const at::Tensor edges = in.edges.expand({in.sources.size(0), -1, -1});
  at::Tensor x = at::cat({in.destinations.index_select(1, set.destination),
                          in.sources.index_select(1, set.source), edges},
                         2);
  x = at::gelu(at::linear(x, p["edge_mlp.mlp.0.weight"], p["edge_mlp.mlp.0.bias"]));
  x = at::gelu(at::linear(x, p["edge_mlp.mlp.2.weight"], p["edge_mlp.mlp.2.bias"]));
  x = at::linear(x, p["edge_mlp.mlp.4.weight"], p["edge_mlp.mlp.4.bias"]);
  x = at::layer_norm(x, {kChannels}, p["edge_mlp.layer_norm.weight"],
                     p["edge_mlp.layer_norm.bias"]);
  return at::zeros_like(in.destinations).index_add(1, set.destination, x + edges);
}

GraphConv filled_conv() {
  GraphConv conv(kChannels);
  initialize_parameters(conv, 3);
  conv.to(at::kDouble);
  return conv;
}

ConvOptions over(const EdgeSet& set, Activations activations = Activations::keep,
                 int64_t chunk_edges = 1000) {
  ConvOptions options;
  options.index = std::make_shared<EdgeIndex>(set, EdgeIndexOptions{.chunk_edges = chunk_edges});
  options.activations = activations;
  return options;
}

TEST(GraphConv, GivesTheSumsOfTheConcatenatedForm) {
  const EdgeSet set = test::tiny_mesh().encoder;
  const GraphConv conv = filled_conv();
  for (const int64_t batch : {1, 3}) {
    const Inputs in(set, batch);
    const auto result = conv.forward(in.sources, in.destinations, {{in.edges}}, over(set));

    EXPECT_EQ(result.messages.sizes(), (std::vector<int64_t>{batch, set.size(), kChannels}));
    EXPECT_TRUE(at::allclose(result.sums, reference_sums(conv, in, set), 0, 1e-12));
  }
}

std::vector<at::Tensor> gradients_of(const GraphConv& conv, const Inputs& in) {
  std::vector<at::Tensor> all{in.sources.grad(), in.destinations.grad(), in.edges.grad()};
  for (const at::Tensor& parameter : conv.parameters()) {
    all.push_back(parameter.grad().clone());
    parameter.mutable_grad().zero_();
  }
  return all;
}

void expect_close(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(at::allclose(got[i], wanted[i], 1e-10, 1e-10)) << i;
  }
}

TEST(GraphConv, GivesTheGradientsOfTheConcatenatedForm) {
  const EdgeSet set = test::tiny_mesh().decoder;
  const GraphConv conv = filled_conv();
  const Inputs theirs(set, 2);
  reference_sums(conv, theirs, set).pow(3).sum().backward();
  const auto wanted = gradients_of(conv, theirs);
  for (const auto activations : {Activations::keep, Activations::recompute}) {
    for (const int64_t chunk : {1, 7, 1000}) {
      const Inputs ours(set, 2);
      conv.forward(ours.sources, ours.destinations, {{ours.edges}}, over(set, activations, chunk))
          .sums.pow(3)
          .sum()
          .backward();
      expect_close(gradients_of(conv, ours), wanted);
    }
  }
}

// The gradient that comes with the edges' new state. Were every edge to end in a node of its own,
// sums would be messages: that is the reference.
TEST(GraphConv, PassesTheGradientOfItsMessages) {
  const EdgeSet set = test::tiny_mesh().encoder;
  EdgeSet apart = set;
  apart.destination = at::arange(set.size());
  apart.destinations = set.size();
  const GraphConv conv = filled_conv();
  const Inputs ours(set, 1);
  Inputs theirs(set, 1);
  theirs.destinations =
      ours.destinations.detach().index_select(1, set.destination).requires_grad_();
  const at::Tensor weights = values({1, set.size(), kChannels}, 0.9);
  const auto result = conv.forward(ours.sources, ours.destinations, {{ours.edges}},
                                   over(set, Activations::keep, 7));
  (result.messages * weights).sum().backward();
  auto got = gradients_of(conv, ours);
  (reference_sums(conv, theirs, apart) * weights).sum().backward();
  auto wanted = gradients_of(conv, theirs);

  got.erase(got.begin() + 1);  // of the destinations, which differ
  wanted.erase(wanted.begin() + 1);
  expect_close(got, wanted);
}

// Embedded chunk by chunk, or all at once.
TEST(GraphConv, EmbedsItsEdgesOnTheWay) {
  const EdgeSet set = test::tiny_mesh().encoder;
  const auto embedding =
      std::make_shared<Mlp>(MlpOptions{.in = 4, .hidden = kChannels, .out = kChannels});
  initialize_parameters(*embedding, 5);
  embedding->to(at::kDouble);
  const GraphConv conv = filled_conv();
  const at::Tensor fixed = values({1, set.size(), 3}, 0.4);
  std::vector<std::vector<at::Tensor>> gradients;
  for (const bool chunks : {true, false}) {
    const Inputs in(set, 2);
    const at::Tensor table = values({1, set.size(), 1}, 0.2).requires_grad_();
    embedding->zero_grad();
    const EdgeInput edges = chunks ? EdgeInput{{fixed, table}, embedding}
                                   : EdgeInput{{embedding->forward({fixed, table}, {})}};
    const auto options = over(set, chunks ? Activations::recompute : Activations::keep, 7);
    conv.forward(in.sources, in.destinations, edges, options, GraphConv::Messages::unwanted)
        .sums.pow(2)
        .sum()
        .backward();
    auto& all = gradients.emplace_back(gradients_of(conv, in));
    all[2] = table.grad();
    for (const auto& parameter : embedding->parameters()) all.push_back(parameter.grad().clone());
  }

  expect_close(gradients[0], gradients[1]);
}

TEST(GraphConv, LeavesDestinationsWithoutEdgesAtZero) {
  EdgeSet set = test::tiny_mesh().encoder;
  set.destination = set.destination + 2;
  set.destinations += 2;
  const Inputs in(set, 1);
  const auto sums =
      filled_conv().forward(in.sources, in.destinations, {{in.edges}}, over(set)).sums;

  EXPECT_TRUE(at::equal(sums.slice(1, 0, 2), at::zeros({1, 2, kChannels}, at::kDouble)));
  EXPECT_GT(sums.slice(1, 2).abs().sum().item<double>(), 0);
}

TEST(EdgeIndex, CoversAllEdgesByChunksOfWholeDestinations) {
  const EdgeSet set = test::tiny_mesh().decoder;
  for (const int64_t most : {1, 7, 1000}) {
    const EdgeIndex index(set, {.chunk_edges = most, .interior = 20});
    int64_t destination = 0, edge = 0, source = 0;
    for (const EdgeChunk& chunk : index.chunks()) {
      EXPECT_EQ(chunk.first_destination, destination);
      EXPECT_EQ(chunk.first_edge, edge);
      EXPECT_EQ(chunk.first_source, source);
      EXPECT_TRUE(chunk.edges <= most || chunk.destinations == 1);
      EXPECT_EQ(chunk.halo, destination >= 20);
      destination += chunk.destinations;
      edge += chunk.edges;
      source += chunk.sources;
    }
    EXPECT_EQ(destination, set.destinations);
    EXPECT_EQ(edge, set.size());
    EXPECT_EQ(source, index.chunk_sources().size(0));
  }
}

TEST(EdgeIndex, StaysWholeNumbersWhenTheModuleChangesItsType) {
  struct Holder : torch::nn::Module {
    std::shared_ptr<EdgeIndex> index =
        register_module("index", std::make_shared<EdgeIndex>(test::tiny_mesh().encoder));
  } holder;

  holder.to(at::kDouble);
  holder.to(at::Device(at::kCPU), at::kHalf);

  EXPECT_EQ(holder.named_buffers().size(), 6u);
  for (const auto& buffer : holder.named_buffers()) {
    EXPECT_EQ(buffer.value().scalar_type(), at::kLong) << buffer.key();
  }
}

// A move to a device sets each buffer's data, which is all that Module::to does.
TEST(EdgeIndex, ReadsWhatAMoveLeavesInItsBuffers) {
  EdgeIndex index(test::tiny_mesh().encoder);
  for (const auto& buffer : index.named_buffers()) {
    buffer.value().set_data(at::full_like(buffer.value(), 3));
  }

  for (const at::Tensor& buffer :
       {index.source(), index.destination(), index.offsets(), index.source_order(),
        index.chunk_sources(), index.chunk_source_offsets()}) {
    EXPECT_TRUE(buffer.eq(3).all().item<bool>());
  }
}

}  // namespace
}  // namespace isobar::graph_conv_test
