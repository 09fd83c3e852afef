// SPDX-License-Identifier: Apache-2.0
#include "coordinates.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace isobar::detail {
namespace {

bool is_time(const VariableInfo& variable) {
  return text_attribute(variable, "standard_name") == "time" ||
         text_attribute(variable, "units").find(" since ") != std::string::npos;
}

/// CF section 4.1 and 4.2: degrees_north, degree_north, degree_N, degrees_N, ...
bool has_degrees(const VariableInfo& variable, char direction, const std::string& word) {
  const std::string units = text_attribute(variable, "units");
  if (!units.starts_with("degree")) return false;
  return units.ends_with("_" + word) || units.ends_with(std::string("_") + direction) ||
         units.ends_with(std::string("e") + direction) ||
         units.ends_with(std::string("s") + direction);
}

bool is_latitude(const VariableInfo& variable) {
  return text_attribute(variable, "standard_name") == "latitude" ||
         has_degrees(variable, 'N', "north");
}

bool is_longitude(const VariableInfo& variable) {
  return text_attribute(variable, "standard_name") == "longitude" ||
         has_degrees(variable, 'E', "east");
}

/// The coordinate variable of a dimension, in the variable's group or the
/// nearest one above it, as netCDF's scopes go; "" where there is none.
std::string coordinate_of(const NetcdfFile& file, const VariableInfo& variable,
                          const std::string& dimension) {
  std::string group = variable.name;
  while (!group.empty()) {
    const std::size_t slash = group.rfind('/');
    group = slash == std::string::npos ? "" : group.substr(0, slash);
    const std::string name = group.empty() ? dimension : group + "/" + dimension;
    if (file.has(name)) return name;
  }
  return {};
}

/// The coordinates of a variable's dimensions, and the scalar ones beside it.
std::vector<std::string> candidates(const NetcdfFile& file, const VariableInfo& variable) {
  std::vector<std::string> names;
  for (const std::string& dimension : variable.dimensions) {
    const std::string name = coordinate_of(file, variable, dimension);
    if (!name.empty()) names.push_back(name);
  }
  for (const char* scalar : {"valid_time", "time"}) {
    const std::string name = coordinate_of(file, variable, scalar);
    if (!name.empty() && file.variable(name).shape.empty()) names.push_back(name);
  }
  return names;
}

using Test = std::function<bool(const VariableInfo&)>;

std::string find_coordinate(const NetcdfFile& file, const VariableInfo& variable,
                            const std::string& given, const Test& test,
                            const std::vector<std::string>& usual) {
  if (!given.empty()) return file.variable(given).name;
  const std::vector<std::string> names = candidates(file, variable);
  for (const std::string& name : names) {
    if (test(file.variable(name))) return name;
  }
  for (const std::string& name : names) {
    const std::string last = name.substr(name.rfind('/') + 1);
    if (std::find(usual.begin(), usual.end(), last) != usual.end()) return name;
  }
  throw DataError(join(file.path(), ": variable '", variable.name, "' has no ", usual.back(),
                       " coordinate among its dimensions (", join_words(variable.dimensions),
                       "); name it in the options"));
}

std::vector<double> read_axis(const NetcdfFile& file, const std::string& name) {
  const VariableInfo& variable = file.variable(name);
  if (variable.shape.size() != 1 || variable.shape.front() == 0) {
    throw DataError(join(file.path(), ": coordinate '", name, "' has ", variable.shape.size(),
                         " dimensions; only regular grids are read, whose axes have one"));
  }
  const at::Tensor values = file.read(name).to(at::kDouble);
  const auto* data = values.data_ptr<double>();
  std::vector<double> axis(data, data + values.numel());
  if (!std::all_of(axis.begin(), axis.end(), [](double x) { return std::isfinite(x); })) {
    throw DataError(join(file.path(), ": coordinate '", name, "' has missing values"));
  }
  return axis;
}

/// Sorts the axis by `before`; a value that comes twice is an error.
Axis sorted_axis(const std::vector<double>& values,
                 const std::function<bool(double, double)>& before, const std::string& what) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return before(values[a], values[b]); });
  Axis axis;
  for (const int64_t position : order) {
    if (!axis.degrees.empty() && axis.degrees.back() == values[position]) {
      throw DataError(join(what, " has ", values[position], " degrees twice"));
    }
    axis.degrees.push_back(values[position]);
  }
  if (!std::is_sorted(order.begin(), order.end())) axis.order = at::tensor(order, at::kLong);
  return axis;
}

}  // namespace

Coordinates find_coordinates(const NetcdfFile& file, const VariableInfo& variable,
                             const DatasetOptions& options) {
  return {find_coordinate(file, variable, options.time, is_time, {"valid_time", "time"}),
          find_coordinate(file, variable, options.latitude, is_latitude, {"lat", "latitude"}),
          find_coordinate(file, variable, options.longitude, is_longitude, {"lon", "longitude"})};
}

Axis read_latitudes(const NetcdfFile& file, const std::string& name) {
  const std::vector<double> values = read_axis(file, name);
  const std::string what = file.path() + ": latitude '" + name + "'";
  for (const double value : values) {
    if (std::abs(value) > 90) throw DataError(join(what, " has ", value, " degrees"));
  }
  return sorted_axis(values, std::greater<>(), what);
}

Axis read_longitudes(const NetcdfFile& file, const std::string& name) {
  std::vector<double> values = read_axis(file, name);
  for (double& value : values) value -= 360 * std::floor((value + 180) / 360);
  return sorted_axis(values, std::less<>(), file.path() + ": longitude '" + name + "'");
}

}  // namespace isobar::detail
