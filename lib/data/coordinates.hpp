// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace isobar::detail {

/// The coordinate variables of a gridded variable.
struct Coordinates {
  std::string time;
  std::string latitude;
  std::string longitude;
};

/// Finds them by the names in the options, else by CF attributes, else by the
/// usual names. Throws DataError that says which is missing.
Coordinates find_coordinates(const NetcdfFile& file, const VariableInfo& variable,
                             const DatasetOptions& options);

/// Values along one side of the grid, in isobar's order.
struct Axis {
  std::vector<double> degrees;
  /// Positions in the file, int64; undefined where the file has this order.
  at::Tensor order;
};

/// North to south.
Axis read_latitudes(const NetcdfFile& file, const std::string& name);

/// West to east within [-180, 180).
Axis read_longitudes(const NetcdfFile& file, const std::string& name);

}  // namespace isobar::detail
