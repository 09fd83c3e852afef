// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/graph_conv.hpp>
#include <isobar/model/initialize.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <vector>

#include "model/row_kernels.hpp"
#include "model/tiny_mesh.hpp"

namespace isobar {
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

TEST(GraphConv, GivesTheSumsOfTheConcatenatedForm) {
  const EdgeSet set = test::tiny_mesh().encoder;
  const GraphConv conv = filled_conv();
  for (const int64_t batch : {1, 3}) {
    const Inputs in(set, batch);
    const auto result = conv.forward(in.sources, in.destinations, in.edges, EdgeIndex(set));

    EXPECT_EQ(result.messages.sizes(), (std::vector<int64_t>{batch, set.size(), kChannels}));
    EXPECT_TRUE(at::allclose(result.sums, reference_sums(conv, in, set), 0, 1e-12));
  }
}

TEST(GraphConv, GivesTheGradientsOfTheConcatenatedForm) {
  const EdgeSet set = test::tiny_mesh().decoder;
  const GraphConv conv = filled_conv();
  const Inputs ours(set, 2), theirs(set, 2);
  conv.forward(ours.sources, ours.destinations, ours.edges, EdgeIndex(set))
      .sums.pow(3)
      .sum()
      .backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : conv.parameters()) {
    gradients.push_back(parameter.grad().clone());
    parameter.mutable_grad().zero_();
  }
  reference_sums(conv, theirs, set).pow(3).sum().backward();

  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_TRUE(at::allclose(gradients[i], conv.parameters()[i].grad(), 1e-10, 1e-10));
  }
  EXPECT_TRUE(at::allclose(ours.sources.grad(), theirs.sources.grad(), 1e-10, 1e-10));
  EXPECT_TRUE(at::allclose(ours.destinations.grad(), theirs.destinations.grad(), 1e-10, 1e-10));
  EXPECT_TRUE(at::allclose(ours.edges.grad(), theirs.edges.grad(), 1e-10, 1e-10));
}

TEST(GraphConv, LeavesDestinationsWithoutEdgesAtZero) {
  EdgeSet set = test::tiny_mesh().encoder;
  set.destinations += 2;
  const Inputs in(set, 1);
  const auto result = filled_conv().forward(in.sources, in.destinations, in.edges, EdgeIndex(set));

  EXPECT_TRUE(at::equal(result.sums.slice(1, -2), at::zeros({1, 2, kChannels}, at::kDouble)));
}

TEST(RowKernels, GiveTheSameBitsForAnyNumberOfThreads) {
  const EdgeIndex index(build_graph(test::tiny_mesh().data, {.hidden_level = 4}).processor);
  const at::Tensor edges =
      values({2, 20400, 16}, 0.37).to(at::kFloat);  // enough rows to be shared out
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor alone = detail::sum_rows(edges, index.source());
  at::set_num_threads(3);
  const at::Tensor shared = detail::sum_rows(edges, index.source());
  at::set_num_threads(threads);

  EXPECT_TRUE(at::equal(alone, shared));
}

// Types without a kernel of our own go through LibTorch's operations, as GPUs do. Small whole
// numbers are exact in all of them.
TEST(RowKernels, AgreeWithTheOperationsOfOtherTypes) {
  const EdgeSet set = test::tiny_mesh().encoder;
  const EdgeIndex index(set);
  const auto whole = [](int64_t rows) {
    return at::arange(2 * rows * 3, at::kFloat).remainder(4).view({2, rows, 3});
  };
  const at::Tensor edges = whole(set.size()), d = whole(set.destinations), s = whole(set.sources);
  const auto& [source, destination] = std::tie(index.source(), index.destination());

  EXPECT_TRUE(
      at::equal(detail::gather_add_rows(edges, d, destination.row, s, source.row).to(at::kBFloat16),
                detail::gather_add_rows(edges.to(at::kBFloat16), d.to(at::kBFloat16),
                                        destination.row, s.to(at::kBFloat16), source.row)));
  EXPECT_TRUE(at::equal(detail::gather_rows(d, destination.row).to(at::kBFloat16),
                        detail::gather_rows(d.to(at::kBFloat16), destination.row)));
  for (const EdgeIndex::End* end : {&source, &destination}) {
    EXPECT_TRUE(at::equal(detail::sum_rows(edges, *end).to(at::kBFloat16),
                          detail::sum_rows(edges.to(at::kBFloat16), *end)));
  }
}

TEST(EdgeIndex, StaysWholeNumbersWhenTheModuleChangesItsType) {
  struct Holder : torch::nn::Module {
    std::shared_ptr<EdgeIndex> index =
        register_module("index", std::make_shared<EdgeIndex>(test::tiny_mesh().encoder));
  } holder;

  holder.to(at::kDouble);
  holder.to(at::Device(at::kCPU), at::kHalf);

  EXPECT_EQ(holder.named_buffers().size(), 5u);
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

  for (const EdgeIndex::End& end : {index.source(), index.destination()}) {
    EXPECT_TRUE(end.row.eq(3).all().item<bool>());
    EXPECT_TRUE(end.offsets.eq(3).all().item<bool>());
  }
  EXPECT_TRUE(index.source().order.eq(3).all().item<bool>());
  EXPECT_FALSE(index.destination().order.defined());
}

}  // namespace
}  // namespace isobar
