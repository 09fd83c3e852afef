// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>

namespace isobar::test {

/// 48 data nodes on a coarse global grid, 42 hidden ones.
inline WeatherGraph tiny_mesh() {
  const Grid grid =
      make_latlon_grid({75, 45, 15, -15, -45, -75}, {0, 45, 90, 135, 180, 225, 270, 315});
  return build_graph(grid, {.hidden_level = 1, .min_level = 0});
}

}  // namespace isobar::test
