// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/graph/grid.hpp>

#include <cstdint>
#include <map>
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
  std::vector<double> latitudes = {}, longitudes = {};

  /// The most frequent distance between times.
  int64_t spacing_seconds() const;
  /// The points, as an experiment with graph.grid: file has them.
  Grid grid() const;
};

/// Reads the axes of every variable and the values of a few times. Throws DataError where the file
/// cannot be read, or no variable lies on times, latitudes and longitudes.
DataFile examine_data_file(const std::string& path);

}  // namespace isobar
