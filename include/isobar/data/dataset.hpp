// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

struct DatasetOptions {
  /// One or several files of the same variables and grid, joined in time in
  /// the order of their times.
  std::vector<std::string> paths = {};
  /// Names of the variables wanted; their order is that of the columns.
  std::vector<std::string> variables = {};
  /// Names of the coordinates. Left empty they are found by CF attributes
  /// (standard_name, units) and then by the usual names: valid_time or time,
  /// latitude or lat, longitude or lon.
  std::string time = {};
  std::string latitude = {};
  std::string longitude = {};
  /// By dimension beside time and grid, which value of its coordinate is read: a level, a member,
  /// a version. Where it has no coordinate, which position from 0 on. Of several with commas
  /// between them ("1,5") the next stands in for what is missing at those before it.
  std::map<std::string, std::string> select = {};
  /// Gives missing values as NaN instead of throwing.
  bool allow_missing = false;
  /// What is read stays in memory as long as all of it, at all times and as float32, takes no
  /// more than this. Beyond it, what was read last does; where a chunk of the file holds several
  /// times, those of the chunk read last are kept even if they are more (up to 1 GiB), unless this
  /// is 0.
  int64_t cache_bytes = int64_t{1} << 30;
};

/// Gridded variables over time, from netCDF-4 files on a regular
/// latitude-longitude grid, in one order whatever the order in the file:
/// points run from north to south and, within a row, from west to east with
/// longitudes in [-180, 180), so that a file of 0 to 360 degrees starts in its
/// middle; a region over the date line starts at its western edge. Axes may be in
/// degrees or radians. Variables may have their dimensions in any order, and further
/// ones of which one position is read. One without a time is the same at all times.
///
/// Times are those at which fields are valid, whether the file gives them or says
/// when forecasts began and how long ago that was. Times within a twentieth of the
/// usual step (at most ten minutes) of whole steps are rounded to these.
///
/// Any thread may read. Construction reads coordinates only. Files, their
/// grids, times and variables that do not fit together are a DataError.
class Dataset {
 public:
  explicit Dataset(DatasetOptions options);
  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  /// Seconds since 1970-01-01 in calendar(), strictly increasing.
  const std::vector<int64_t>& times() const noexcept;
  Calendar calendar() const noexcept;
  /// The step in seconds by which times usually follow each other; 0 where there is none.
  int64_t usual_step() const;
  /// The same for people: "6 h", "a month", "irregular".
  std::string step_text() const;

  /// What a user should know of the files, a line each: units that were assumed, gaps in
  /// the grid, times that were rounded, a layout that makes reading slow.
  const std::vector<std::string>& warnings() const noexcept;

  const std::vector<std::string>& variables() const noexcept;
  /// The file's units, by variable; "" where it gives none.
  const std::vector<std::string>& units() const noexcept;

  /// The axes in degrees: north to south, west to east.
  const std::vector<double>& latitudes() const noexcept;
  const std::vector<double>& longitudes() const noexcept;

  /// Latitude and longitude of every point in degrees, float64 [points].
  at::Tensor point_latitudes() const;
  at::Tensor point_longitudes() const;

  /// The position of a time in times(), if it is there.
  std::optional<int64_t> find(int64_t time) const;

  /// The fields of one time, float32 [points, variables]; the caller's own.
  /// Throws DataError that names file, variable and time where a value is missing,
  /// unless the options allow it, where one is not finite, or of 1e15 or more and the file
  /// declares no valid_range, valid_min or valid_max that covers it, and where the file is
  /// damaged there.
  at::Tensor read(int64_t time_index) const;

  /// The same at the points `rows` alone, [n] int64, in their order. Reads the
  /// latitudes that these points span and, unless all points are kept already,
  /// keeps no other in memory. `rows` must not be changed afterwards: what is kept
  /// is found by it. Throws UsageError for a row that is no point.
  at::Tensor read(int64_t time_index, const at::Tensor& rows) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
