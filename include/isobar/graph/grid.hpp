// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// The points that the data live on, in the order of the data.
struct Grid {
  at::Tensor latitude;    ///< [N] float64, degrees north
  at::Tensor longitude;   ///< [N] float64, degrees east, as given (not wrapped)
  at::Tensor area;        ///< [N] float64, share of each point's cell; sums to 1
  bool regional = false;  ///< true unless the points cover the whole sphere
  std::string name;       ///< "O96", or "latlon-33x49" for axes of 33 and 49

  int64_t size() const { return latitude.size(0); }
};

/// The grid of all pairs of two axes in degrees, latitude-major: the point of
/// latitude i and longitude j is row i * longitudes.size() + j.
///
/// Each axis has at least two values and rises or falls strictly; longitudes
/// may step over the date line (350, 355, 0, 5). The grid is global if its
/// longitudes close the circle and its latitudes reach both poles, each
/// within one spacing; otherwise it is regional.
///
/// Cells are bounded half way between points and at the poles; a cell's area is
/// the integral over it, dlon * (sin(lat_upper) - sin(lat_lower)). The outermost
/// cells of a region reach half a spacing beyond the last point; those of a
/// global grid reach the pole.
///
/// Throws UsageError naming the axis and the first value that is wrong.
Grid make_latlon_grid(const std::vector<double>& latitudes, const std::vector<double>& longitudes);

/// A reduced Gaussian grid of ECMWF by its name: "N320" (classic) or "O96"
/// (octahedral, pl = 4i + 16), by ECMWF Atlas.
///
/// 2N Gaussian latitudes from north to south; the row of `pl` points holds the
/// longitudes 360 k / pl, k = 0 at Greenwich, eastward. A point's area is the
/// Gaussian weight of its row over 2 pl.
///
/// Atlas's tables alone are used, not its runtime: neither MPI nor a logger
/// is initialised by it. Throws UsageError for a name that does not exist,
/// and for every name in a build without Atlas.
Grid make_gaussian_grid(const std::string& name);

}  // namespace isobar
