// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/edge_index.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>

namespace isobar {
namespace {

/// [N + 1] where each of the `nodes` starts in `row` sorted.
at::Tensor offsets_of(const at::Tensor& counts) {
  return at::cat({at::zeros({1}, at::kLong), counts.cumsum(0)});
}

}  // namespace

EdgeIndex::EdgeIndex(const EdgeSet& edges, const EdgeIndexOptions& options) {
  ISOBAR_CHECK(options.chunk_edges > 0, "EdgeIndex: chunk_edges must be positive, got ",
               options.chunk_edges);
  source_ = register_buffer("source", edges.source.clone());
  destination_ = register_buffer("destination", edges.destination.clone());
  offsets_ = register_buffer("destination_offsets",
                             offsets_of(at::bincount(edges.destination, {}, edges.destinations)));
  plan_chunks(options);
  order_by_source(edges.sources);
}

void EdgeIndex::plan_chunks(const EdgeIndexOptions& options) {
  const int64_t destinations = offsets_.size(0) - 1;
  const int64_t interior = options.interior < 0 ? destinations : options.interior;
  const int64_t* starts = offsets_.const_data_ptr<int64_t>();
  for (int64_t first = 0; first < destinations;) {
    const int64_t limit = first < interior ? interior : destinations;
    int64_t last = first + 1;
    while (last < limit && starts[last + 1] - starts[first] <= options.chunk_edges) ++last;
    chunks_.push_back({.first_destination = first,
                       .destinations = last - first,
                       .first_edge = starts[first],
                       .edges = starts[last] - starts[first],
                       .halo = first >= interior});
    first = last;
  }
}

void EdgeIndex::order_by_source(int64_t sources) {
  at::Tensor chunk = at::empty_like(source_);
  for (size_t i = 0; i < chunks_.size(); ++i) {
    chunk.narrow(0, chunks_[i].first_edge, chunks_[i].edges).fill_(static_cast<int64_t>(i));
  }
  const auto [keys, order] = (chunk * sources + source_).sort(/*stable=*/true, 0, false);
  const auto [different, inverse, counts] =
      at::unique_consecutive(keys, /*return_inverse=*/false, /*return_counts=*/true);
  source_order_ = register_buffer("source_order", order);
  chunk_sources_ =
      register_buffer("chunk_sources", different.remainder(std::max<int64_t>(1, sources)));
  chunk_source_offsets_ = register_buffer("chunk_source_offsets", offsets_of(counts));
  const at::Tensor owner = different.div(std::max<int64_t>(1, sources), "floor");
  const at::Tensor per_chunk = at::bincount(owner, {}, static_cast<int64_t>(chunks_.size()));
  int64_t first = 0;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    chunks_[i].first_source = first;
    chunks_[i].sources = per_chunk[static_cast<int64_t>(i)].item<int64_t>();
    first += chunks_[i].sources;
  }
}

int64_t EdgeIndex::largest_chunk() const {
  int64_t largest = 0;
  for (const EdgeChunk& chunk : chunks_) largest = std::max(largest, chunk.edges);
  return largest;
}

// torch::nn::Module converts every buffer, whole numbers included.
void EdgeIndex::to(torch::Device device, torch::Dtype, bool non_blocking) {
  to(device, non_blocking);
}

void EdgeIndex::to(torch::Dtype, bool) {}

void EdgeIndex::to(torch::Device device, bool non_blocking) { Module::to(device, non_blocking); }

}  // namespace isobar
