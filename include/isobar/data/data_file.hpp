// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// What of a netCDF file can be trained on, found by trying.
struct DataFile {
  std::string path;
  std::vector<std::string> changing = {};  ///< variables of values that change from time to time
  std::vector<std::string> constant = {};  ///< those that do not
  bool has_missing = false;                ///< in the times that were looked at
  std::map<std::string, std::string> left_out = {};  ///< why, by variable
  std::vector<int64_t> times = {};                   ///< seconds since 1970-01-01
  Calendar calendar = Calendar::standard;
  std::vector<double> latitudes = {}, longitudes = {};  ///< degrees, in a Dataset's order

  /// The most frequent distance between times.
  int64_t spacing_seconds() const;
};

/// Reads the axes of every variable and the values of a few times. Throws DataError where the file
/// cannot be read, or no variable lies on times, latitudes and longitudes.
DataFile examine_data_file(const std::string& path);

/// The axes of a grid in degrees: north to south, and west to east within [-180, 180).
struct GridAxes {
  std::vector<double> latitudes;
  std::vector<double> longitudes;
};

/// Those of the first variable of a netCDF file that lies on a latitude-longitude grid, whatever
/// else it lies along; nothing where there is none. Throws DataError where axes cannot be read.
std::optional<GridAxes> find_grid_axes(const std::string& path);

}  // namespace isobar
