// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "coordinates.hpp"
#include "decoding.hpp"
#include "selection.hpp"
#include "time_axis.hpp"

namespace isobar {

/// One file of a data set: its variables in isobar's order of points.
class FieldFile {
 public:
  /// Throws DataError unless all variables of the options share grid and times; those without a
  /// time are the same at all of them.
  FieldFile(const std::string& path, const DatasetOptions& options);

  const std::string& path() const noexcept { return file_.path(); }
  const std::vector<int64_t>& times() const noexcept { return time_.times; }
  Calendar calendar() const noexcept { return time_.calendar; }
  const std::vector<double>& latitudes() const noexcept { return latitudes_.degrees; }
  const std::vector<double>& longitudes() const noexcept { return longitudes_.degrees; }
  std::string units(int64_t variable) const;
  /// Between which a variable's values lie for what the file declares.
  Decoding::Limits limits(int64_t variable) const;

  /// What a user should know of the grid.
  std::vector<std::string> warnings() const;

  /// Times that are stored together, so that reading one costs as much as all.
  int64_t block_times() const noexcept { return block_times_; }

  /// A command that rewrites the file so that each time is stored by itself.
  std::string rewriting_command() const;

  /// Fields of `count` times, float32 [count, points, variables]; of the points `rows`, or of
  /// all where it is undefined.
  at::Tensor read(int64_t first, int64_t count, const at::Tensor& rows) const;

 private:
  /// Which dimension of a stored variable is which; the rest are read at one position.
  struct Layout {
    std::string name;
    std::vector<int64_t> time;  // in the order of the time axis; none for a field without time
    int64_t latitude = -1;
    int64_t longitude = -1;
    // By dimension the position chosen, else 0; each fills in what is missing at those before it.
    std::vector<std::vector<int64_t>> starts;
  };

  /// Latitudes of the file that hold the points to read, and where the points lie among them.
  struct Band {
    int64_t first = 0;
    int64_t count = 0;
    at::Tensor points;  // positions in [count, longitudes] as stored; undefined for all
  };

  TimeNames find_times(const DatasetOptions& options, const GridNames& grid) const;
  Layout layout_of(const std::string& name, const GridNames& grid, const Selected& selected) const;
  void check_shape(const Layout& layout, const Selected& selected) const;
  void find_blocks();
  Band band_of(const at::Tensor& rows) const;
  at::Tensor read_variable(const Layout& layout, int64_t first, int64_t count,
                           const Band& band) const;
  at::Tensor read_stored(const Layout& layout, const std::vector<int64_t>& time_start,
                         const std::vector<int64_t>& time_count, const Band& band) const;

  NetcdfFile file_;
  std::vector<Layout> layouts_;
  TimeAxis time_;
  Axis latitudes_;
  Axis longitudes_;
  int64_t block_times_ = 1;
};

}  // namespace isobar
