// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>

#include "graph/axes.hpp"

namespace isobar::test {

/// 1,458 data nodes over the whole sphere, 642 hidden ones.
inline WeatherGraph global_mesh() {
  return build_graph(make_latlon_grid(axis(85, -170. / 26, 27), axis(0, 360. / 54, 54)),
                     {.hidden_level = 3, .max_neighbours = 16});
}

/// The region of the quick start: 33 x 49 points at a quarter of a degree.
inline Grid regional_grid() { return make_latlon_grid(axis(58, -0.25, 33), axis(-10, 0.25, 49)); }

/// 86 hidden nodes.
inline WeatherGraph regional_mesh() { return build_graph(regional_grid(), {.hidden_level = 6}); }

}  // namespace isobar::test
