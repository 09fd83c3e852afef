// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>
#include <isobar/data/netcdf.hpp>

#include <map>
#include <string>
#include <vector>

namespace isobar {

/// The variables that say when a variable's fields are valid.
struct TimeNames {
  /// The coordinate of valid times; "" where there is none.
  std::string valid;
  /// Otherwise when forecasts began, and the time from then on: together they are valid times.
  std::string reference;
  std::string period;

  bool known() const { return !valid.empty() || !period.empty(); }
  bool operator==(const TimeNames&) const = default;
};

/// By the name `given`, else by CF attributes, else by the usual names. A coordinate of reference
/// times alone comes back as such: these are not when fields are valid.
TimeNames find_time(const NetcdfFile& file, const VariableInfo& variable, const std::string& given);

/// When the fields of a file are valid.
struct TimeAxis {
  std::vector<int64_t> times;  ///< seconds, in the calendar
  Calendar calendar = Calendar::standard;
  /// The file's dimensions that they lie along, none of which has length one; the last is the one
  /// along which times go on first. At most two.
  std::vector<std::string> dimensions;
  std::vector<int64_t> lengths;
};

/// Reads them, of the position given in each dimension of `selected`. Throws DataError.
TimeAxis read_time_axis(const NetcdfFile& file, const TimeNames& names,
                        const std::map<std::string, int64_t>& selected);

}  // namespace isobar
