// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>
#include <isobar/graph/grid.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace isobar {

struct GraphOptions {
  int64_t hidden_level = 5;  ///< icosphere level of the hidden mesh
  int64_t min_level = 1;     ///< coarsest level whose edges the processor has
  /// A reduced Gaussian grid as the hidden mesh, such as "O96", in place of the icosphere.
  std::string hidden_grid = {};
  int64_t processor_neighbours = 6;  ///< of a hidden grid: nearest nodes that each one reads
  double margin_degrees = 1.0;       ///< hidden nodes kept around a regional grid
  double cutoff_factor = 0.6;        ///< see cutoff_edges
  int64_t max_neighbours = 64;       ///< see cutoff_edges
  int64_t decoder_neighbours = 3;    ///< hidden nodes that each data node reads

  bool operator==(const GraphOptions&) const = default;
};

/// The mesh of a weather model: a data grid, a hidden mesh coarser than it,
/// and the edges encoder (data to hidden), processor (hidden to hidden) and
/// decoder (hidden to data).
struct WeatherGraph {
  Grid data;
  at::Tensor hidden_latitude;   ///< [V] float64, degrees
  at::Tensor hidden_longitude;  ///< [V] float64, degrees
  EdgeSet encoder;
  EdgeSet processor;
  EdgeSet decoder;
  /// Data nodes without an encoder edge: the hidden mesh does not see their
  /// values, and the caller warns. Either max_neighbours cut them off, where the
  /// hidden level is too coarse or data nodes crowd, as those of a
  /// latitude-longitude grid do at the poles; or cutoff_factor is too small.
  int64_t uncovered = 0;

  int64_t data_nodes() const { return data.size(); }
  int64_t hidden_nodes() const { return hidden_latitude.size(0); }
};

/// Builds the mesh over `grid`; around a regional grid the hidden mesh is
/// restricted to the region and its margin. The result depends on the arguments
/// alone, not on the number of threads, which are LibTorch's. Throws UsageError,
/// see make_icosphere, restrict_to, make_gaussian_grid and nearest_other_edges.
WeatherGraph build_graph(const Grid& grid, const GraphOptions& options);

/// [N, 4] float32: sin(lat), sin(lon), cos(lat), cos(lon), in this order, of
/// positions in degrees.
at::Tensor node_attributes(const at::Tensor& latitude, const at::Tensor& longitude);

}  // namespace isobar
