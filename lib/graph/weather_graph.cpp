// SPDX-License-Identifier: Apache-2.0
#include <isobar/graph/icosphere.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <ATen/ATen.h>

#include "graph/sphere.hpp"

namespace isobar {
namespace {

Icosphere hidden_mesh(const Grid& grid, const GraphOptions& options) {
  Icosphere whole = make_icosphere({.level = options.hidden_level, .min_level = options.min_level});
  return grid.regional ? restrict_to(whole, grid, options.margin_degrees) : whole;
}

int64_t sources_without_edge(const EdgeSet& edges) {
  return at::bincount(edges.source, {}, edges.sources).eq(0).sum().item<int64_t>();
}

}  // namespace

WeatherGraph build_graph(const Grid& grid, const GraphOptions& options) {
  const Icosphere mesh = hidden_mesh(grid, options);
  const Positions data{grid.latitude, grid.longitude};
  const Positions hidden{mesh.latitude, mesh.longitude};
  WeatherGraph graph{
      .data = grid,
      .hidden_latitude = mesh.latitude,
      .hidden_longitude = mesh.longitude,
      .encoder =
          cutoff_edges(data, hidden,
                       {.factor = options.cutoff_factor, .max_neighbours = options.max_neighbours}),
      .processor = multi_scale_edges(mesh),
      .decoder = nearest_edges(hidden, data, options.decoder_neighbours),
  };
  graph.uncovered = sources_without_edge(graph.encoder);
  return graph;
}

at::Tensor node_attributes(const at::Tensor& latitude, const at::Tensor& longitude) {
  const at::Tensor lat = latitude.to(at::kDouble) * detail::kRadiansPerDegree;
  const at::Tensor lon = longitude.to(at::kDouble) * detail::kRadiansPerDegree;
  return at::stack({lat.sin(), lon.sin(), lat.cos(), lon.cos()}, 1).to(at::kFloat);
}

}  // namespace isobar
