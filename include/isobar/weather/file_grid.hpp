// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/grid.hpp>

#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// The points of a file's axes. Throws DataError that names the file where they are no grid, such
/// as one latitude.
Grid make_file_grid(const std::vector<double>& latitudes, const std::vector<double>& longitudes,
                    const std::string& path);

/// The points of the first variable of a netCDF file that lies on a latitude-longitude grid,
/// whatever else it lies along; nothing where there is none.
std::optional<Grid> find_file_grid(const std::string& path);

}  // namespace isobar
