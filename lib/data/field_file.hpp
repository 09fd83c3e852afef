// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "coordinates.hpp"

namespace isobar::detail {

/// One file of a data set: its variables in isobar's order of points.
class FieldFile {
 public:
  /// Throws DataError unless all variables of the options share times and grid.
  FieldFile(const std::string& path, const DatasetOptions& options);

  const std::string& path() const noexcept { return file_.path(); }
  const std::vector<int64_t>& times() const noexcept { return times_; }
  Calendar calendar() const noexcept { return calendar_; }
  const std::vector<double>& latitudes() const noexcept { return latitudes_.degrees; }
  const std::vector<double>& longitudes() const noexcept { return longitudes_.degrees; }
  std::string units(int64_t variable) const;

  /// Times that are stored together, so that reading one costs as much as all.
  int64_t block_times() const noexcept { return block_times_; }

  /// Fields of `count` times, float32 [count, points, variables]; of the points `rows`, or of
  /// all where it is undefined.
  at::Tensor read(int64_t first, int64_t count, const at::Tensor& rows) const;

 private:
  /// Which dimension of a stored variable is which; the rest have length one.
  struct Layout {
    std::string name;
    int64_t time = -1;
    int64_t latitude = -1;
    int64_t longitude = -1;
  };

  /// Latitudes of the file that hold the points to read, and where the points lie among them.
  struct Band {
    int64_t first = 0;
    int64_t count = 0;
    at::Tensor points;  // positions in [count, longitudes] as stored; undefined for all
  };

  Layout layout_of(const std::string& name, const Coordinates& coordinates) const;
  void check_shape(const Layout& layout) const;
  void read_times(const std::string& name);
  void find_blocks();
  Band band_of(const at::Tensor& rows) const;
  at::Tensor read_variable(const Layout& layout, int64_t first, int64_t count,
                           const Band& band) const;

  NetcdfFile file_;
  std::vector<Layout> layouts_;
  std::vector<int64_t> times_;
  Calendar calendar_ = Calendar::standard;
  Axis latitudes_;
  Axis longitudes_;
  int64_t block_times_ = 1;
};

}  // namespace isobar::detail
