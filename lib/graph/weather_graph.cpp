// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/icosphere.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "graph/restrict.hpp"
#include "graph/sphere.hpp"

namespace isobar {
namespace {

struct HiddenMesh {
  Positions nodes;
  EdgeSet edges;
};

HiddenMesh icosphere(const Grid& grid, const GraphOptions& options) {
  Icosphere mesh = make_icosphere({.level = options.hidden_level, .min_level = options.min_level});
  if (grid.regional) mesh = restrict_to(mesh, grid, options.margin_degrees);
  return {{mesh.latitude, mesh.longitude}, multi_scale_edges(mesh)};
}

HiddenMesh named_grid(const Grid& grid, const GraphOptions& options) {
  const Grid hidden = make_gaussian_grid(options.hidden_grid);
  Positions nodes{hidden.latitude, hidden.longitude};
  if (grid.regional) {
    const at::Tensor kept = rows_near(nodes, grid, options.margin_degrees);
    nodes = {nodes.latitude.index_select(0, kept), nodes.longitude.index_select(0, kept)};
  }
  return {nodes, nearest_other_edges(nodes, options.processor_neighbours)};
}

int64_t sources_without_edge(const EdgeSet& edges) {
  return at::bincount(edges.source, {}, edges.sources).eq(0).sum().item<int64_t>();
}

}  // namespace

WeatherGraph build_graph(const Grid& grid, const GraphOptions& options) {
  HiddenMesh hidden =
      options.hidden_grid.empty() ? icosphere(grid, options) : named_grid(grid, options);
  const int64_t found = hidden.nodes.latitude.size(0);
  const int64_t wanted = std::max<int64_t>(2, options.decoder_neighbours);
  ISOBAR_CHECK(found >= wanted, "build_graph: the hidden mesh has ", found, " node",
               found == 1 ? "" : "s", " at the grid's points, of ", wanted,
               " that are wanted at least: each point reads the nearest ",
               options.decoder_neighbours,
               "; take a finer hidden_level (or hidden_grid), a wider margin_degrees or fewer "
               "decoder_neighbours");
  const Positions data{grid.latitude, grid.longitude};
  WeatherGraph graph{
      .data = grid,
      .hidden_latitude = hidden.nodes.latitude,
      .hidden_longitude = hidden.nodes.longitude,
      .encoder =
          cutoff_edges(data, hidden.nodes,
                       {.factor = options.cutoff_factor, .max_neighbours = options.max_neighbours}),
      .processor = std::move(hidden.edges),
      .decoder = nearest_edges(hidden.nodes, data, options.decoder_neighbours),
  };
  graph.uncovered = sources_without_edge(graph.encoder);
  return graph;
}

at::Tensor node_attributes(const at::Tensor& latitude, const at::Tensor& longitude) {
  const at::Tensor lat = latitude.to(at::kDouble) * kRadiansPerDegree;
  const at::Tensor lon = longitude.to(at::kDouble) * kRadiansPerDegree;
  return at::stack({lat.sin(), lon.sin(), lat.cos(), lon.cos()}, 1).to(at::kFloat);
}

}  // namespace isobar
