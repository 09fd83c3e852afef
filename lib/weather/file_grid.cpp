// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/file_grid.hpp>

#include <isobar/core/error.hpp>
#include <isobar/data/data_file.hpp>

namespace isobar {

Grid make_file_grid(const std::vector<double>& latitudes, const std::vector<double>& longitudes,
                    const std::string& path) {
  if (latitudes.size() < 2 || longitudes.size() < 2) {
    throw DataError(
        detail::join(path, ": a grid has two latitudes and two longitudes at least, this one has ",
                     latitudes.size(), " and ", longitudes.size(),
                     "; points of a reduced Gaussian grid in one row want its name in graph.grid"));
  }
  return make_latlon_grid(latitudes, longitudes);
}

std::optional<Grid> find_file_grid(const std::string& path) {
  const auto axes = find_grid_axes(path);
  if (!axes) return std::nullopt;
  return make_file_grid(axes->latitudes, axes->longitudes, path);
}

}  // namespace isobar
