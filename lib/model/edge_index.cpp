// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/graph_conv.hpp>
#include <ATen/ATen.h>

namespace isobar {
namespace {

/// [N + 1] where each of the `nodes` starts in `row` sorted.
at::Tensor offsets_of(const at::Tensor& row, int64_t nodes) {
  const at::Tensor ends = at::bincount(row, {}, nodes).cumsum(0);
  return at::cat({at::zeros({1}, at::kLong), ends});
}

}  // namespace

EdgeIndex::EdgeIndex(const EdgeSet& edges) {
  source_.row = register_buffer("source", edges.source.clone());
  source_.order = register_buffer("source_order", edges.source.argsort(/*stable=*/true, 0, false));
  source_.offsets = register_buffer("source_offsets", offsets_of(edges.source, edges.sources));
  destination_.row = register_buffer("destination", edges.destination.clone());
  destination_.offsets =
      register_buffer("destination_offsets", offsets_of(edges.destination, edges.destinations));
}

// torch::nn::Module converts every buffer, whole numbers included.
void EdgeIndex::to(torch::Device device, torch::Dtype, bool non_blocking) {
  to(device, non_blocking);
}

void EdgeIndex::to(torch::Dtype, bool) {}

void EdgeIndex::to(torch::Device device, bool non_blocking) { Module::to(device, non_blocking); }

}  // namespace isobar
