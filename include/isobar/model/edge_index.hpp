// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace isobar {

/// A range of destinations and their edges, computed together.
struct EdgeChunk {
  int64_t first_destination = 0;
  int64_t destinations = 0;
  int64_t first_edge = 0;
  int64_t edges = 0;
  int64_t first_source = 0;  ///< in EdgeIndex::chunk_sources
  int64_t sources = 0;       ///< different sources of these edges
  bool halo = false;         ///< reads rows of other ranks
};

struct EdgeIndexOptions {
  /// The most edges that are computed together, unless one destination has more.
  /// Temporary edge tensors have this many rows.
  int64_t chunk_edges = std::numeric_limits<int64_t>::max();
  /// Destinations up to this one read own rows alone (EdgeShard::interior);
  /// negative: all do.
  int64_t interior = -1;
};

/// Which rows an edge set joins, in the forms that sums over its edges need.
///
/// The index tensors are buffers: `to(device)` of any module that holds this
/// one moves them, and `to(dtype)` leaves them whole numbers. Being no
/// parameters, they are in no optimizer; a checkpoint need not hold them, since
/// they follow from the mesh.
class EdgeIndex : public torch::nn::Module {
 public:
  /// Throws UsageError unless chunk_edges is positive.
  explicit EdgeIndex(const EdgeSet& edges, const EdgeIndexOptions& options = {});

  const at::Tensor& source() const { return source_; }            ///< [E]
  const at::Tensor& destination() const { return destination_; }  ///< [E], never falling
  /// [N + 1]: where each destination's edges start.
  const at::Tensor& offsets() const { return offsets_; }

  /// Interior chunks first, in the order of destinations.
  const std::vector<EdgeChunk>& chunks() const { return chunks_; }
  int64_t largest_chunk() const;  ///< edges

  /// For the sums of a chunk's edges at their sources: edges in the order of
  /// (chunk, source) [E], the different sources of each chunk one after another
  /// [S], and where the edges of each start in that order [S + 1].
  const at::Tensor& source_order() const { return source_order_; }
  const at::Tensor& chunk_sources() const { return chunk_sources_; }
  const at::Tensor& chunk_source_offsets() const { return chunk_source_offsets_; }

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

 private:
  void plan_chunks(const EdgeIndexOptions& options);
  void order_by_source(int64_t sources);

  at::Tensor source_, destination_, offsets_;
  at::Tensor source_order_, chunk_sources_, chunk_source_offsets_;
  std::vector<EdgeChunk> chunks_;
};

}  // namespace isobar
