// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace isobar {

/// The coordinate variable of a name in the variable's group or the nearest one above it, as
/// netCDF's scopes go; "" where there is none.
std::string coordinate_of(const NetcdfFile& file, const VariableInfo& variable,
                          const std::string& name);

/// The horizontal coordinate variables of a gridded variable.
struct GridNames {
  std::string latitude;
  std::string longitude;

  bool operator==(const GridNames&) const = default;
};

/// Finds them by the names in the options, else by CF attributes, else by the
/// usual names. Throws DataError that says which is missing.
GridNames find_grid(const NetcdfFile& file, const VariableInfo& variable,
                    const DatasetOptions& options);

/// Values along one side of the grid, in isobar's order.
struct Axis {
  std::vector<double> degrees;
  /// Positions in the file, int64; undefined where the file has this order.
  at::Tensor order;
  /// What a user should know of it.
  std::vector<std::string> warnings;
};

/// North to south. Beyond a pole by no more than rounding is on it.
Axis read_latitudes(const NetcdfFile& file, const std::string& name);

/// West to east within [-180, 180), from -180 on or, for a region, from the end of the largest gap.
Axis read_longitudes(const NetcdfFile& file, const std::string& name);

}  // namespace isobar
