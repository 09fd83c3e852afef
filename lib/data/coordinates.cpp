// SPDX-License-Identifier: Apache-2.0
// The grid of a file: FieldFile asks which variables are its axes, and for these in degrees and in
// isobar's order. Called where a file is opened, on one thread. Positions of an axis are those in
// the file, of which Axis::order keeps the permutation; distances between longitudes are taken
// around the circle, so that a region over the date line is as any other.
#include "coordinates.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <string_view>
#include <utility>

#include "time_text.hpp"

namespace isobar {
namespace {

/// What float32 makes of 90 degrees in any unit, and programs that compute their axes.
constexpr double kPoleRounding = 1e-4;

/// Of a spacing: closer values are one, further ones have a gap between them.
constexpr double kSameValue = 0.01;
constexpr double kGap = 1.6;

/// CF section 4.1 and 4.2: degrees_north, degree_north, degree_N, degrees_N, ...
bool has_degrees(const VariableInfo& variable, char direction, std::string_view word) {
  const std::string units = text_attribute(variable, "units");
  if (!units.starts_with("degree")) return false;
  return units.ends_with(detail::join("_", word)) ||
         units.ends_with(std::string("_") + direction) ||
         units.ends_with(std::string("e") + direction) ||
         units.ends_with(std::string("s") + direction);
}

/// How coordinates of one direction are known, and named.
struct Direction {
  std::string_view name;  ///< in standard_name
  std::array<std::string_view, 2> usual_names;
  std::array<std::pair<char, std::string_view>, 2> units;  ///< degrees_N, degrees_north, ...
};

constexpr Direction kLatitude{"latitude", {"lat", "latitude"}, {{{'N', "north"}, {'S', "south"}}}};
constexpr Direction kLongitude{"longitude", {"lon", "longitude"}, {{{'E', "east"}, {'W', "west"}}}};

std::string last_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool has_name(const std::string& path, const Direction& direction) {
  const auto& usual = direction.usual_names;
  return std::find(usual.begin(), usual.end(), last_name(path)) != usual.end();
}

bool has_units(const VariableInfo& variable, const Direction& direction) {
  return std::any_of(direction.units.begin(), direction.units.end(), [&](const auto& each) {
    return has_degrees(variable, each.first, each.second);
  });
}

/// CF lets the standard name decide, then the units. What else speaks for the other direction is a
/// mistake in one place or the other, after which the grid may lie on its side.
void warn_of_contradiction(const VariableInfo& variable, const std::string& what,
                           const Direction& other, Axis& axis) {
  std::vector<std::string> signs;
  if (has_name(variable.name, other)) signs.push_back("name");
  if (text_attribute(variable, "standard_name") == other.name) signs.push_back("standard_name");
  if (has_units(variable, other)) {
    signs.push_back("units (" + text_attribute(variable, "units") + ")");
  }
  if (signs.empty()) return;
  axis.warnings.push_back(detail::join(what, " has the ", join_words(signs, " and "), " of a ",
                                       other.name,
                                       "; check that the axes have not changed places"));
}

std::string find_axis(const NetcdfFile& file, const VariableInfo& variable,
                      const std::string& given, const Direction& direction,
                      const Direction& other) {
  if (!given.empty()) return file.variable(given).name;
  std::vector<std::string> names;
  for (const std::string& dimension : variable.dimensions) {
    const std::string name = coordinate_of(file, variable, dimension);
    if (!name.empty()) names.push_back(name);
  }
  const auto standard_name = [&](const std::string& name) {
    return text_attribute(file.variable(name), "standard_name");
  };
  for (const std::string& name : names) {
    if (standard_name(name) == direction.name) return name;
  }
  const auto& [letter, word] = direction.units.front();
  for (const std::string& name : names) {
    const bool is_other = standard_name(name) == other.name;
    if (!is_other && has_degrees(file.variable(name), letter, word)) return name;
  }
  for (const std::string& name : names) {
    // A standard name that is another one, such as grid_latitude, says that it is none.
    if (has_name(name, direction) && standard_name(name).empty()) return name;
  }
  throw DataError(detail::join(file.path(), ": variable '", variable.name, "' has no ",
                               direction.name, " coordinate among its dimensions (",
                               join_words(variable.dimensions), "); name it in the options (data.",
                               direction.name, ") if it lies along one of them"));
}

/// The factor that makes degrees of a coordinate's units.
double degrees_of(const VariableInfo& variable, const std::string& what, Axis& axis) {
  const std::string units = text_attribute(variable, "units");
  const std::string lower = lowered(units);
  if (units.empty()) axis.warnings.push_back(what + " has no units: degrees are assumed");
  if (units.empty()) return 1;
  if (lower.starts_with("deg")) {
    const bool negative = lower.ends_with("_west") || lower.ends_with("_w") ||
                          lower.ends_with("_south") || lower.ends_with("_s");
    return negative ? -1 : 1;
  }
  if (lower == "radian" || lower == "radians" || lower == "rad") return 180 / std::numbers::pi;
  throw DataError(detail::join(what, " is in '", units, "'; wanted degrees or radians"));
}

std::vector<double> read_axis(const NetcdfFile& file, const std::string& name,
                              const std::string& what, const Direction& other, Axis& axis) {
  const VariableInfo& variable = file.variable(name);
  if (variable.shape.size() != 1 || variable.shape.front() == 0) {
    throw DataError(detail::join(file.path(), ": coordinate '", name, "' has ",
                                 variable.shape.size(),
                                 " dimensions; only regular grids are read, whose axes have one"));
  }
  const double factor = degrees_of(variable, what, axis);
  warn_of_contradiction(variable, what, other, axis);
  const at::Tensor values = file.read_coordinate(name);
  const auto* data = values.data_ptr<double>();
  std::vector<double> degrees(data, data + values.numel());
  for (double& value : degrees) {
    if (!std::isfinite(value)) {
      throw DataError(detail::join(file.path(), ": coordinate '", name, "' has missing values"));
    }
    if (factor != 1) value *= factor;
  }
  return degrees;
}

double median(std::vector<double> spacings) {
  std::sort(spacings.begin(), spacings.end());
  return spacings[spacings.size() / 2];
}

[[noreturn]] void fail_twice(const std::string& what, double value) {
  throw DataError(fmt::format("{} has {} degrees twice", what, value));
}

/// Steps from each value to the next.
std::vector<double> steps_of(const std::vector<double>& degrees) {
  std::vector<double> steps;
  for (std::size_t i = 1; i < degrees.size(); ++i) {
    const double step = std::abs(degrees[i] - degrees[i - 1]);
    steps.push_back(step > 180 ? 360 - step : step);
  }
  return steps;
}

/// Values that come twice are an error, a gap within the axis a warning.
void check_spacing(const std::string& what, double usual, Axis& axis) {
  const std::vector<double> steps = steps_of(axis.degrees);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i] < kSameValue * usual || steps[i] == 0) fail_twice(what, axis.degrees[i + 1]);
  }
  // Wider than a neighbour: spacings that change along the axis do so little by little.
  std::size_t i = 0;
  const auto is_gap = [&](std::size_t k) {
    const double before = k > 0 ? steps[k - 1] : steps[k];
    const double after = k + 1 < steps.size() ? steps[k + 1] : steps[k];
    return steps[k] > kGap * std::max(usual, std::min(before, after));
  };
  while (i < steps.size() && !is_gap(i)) ++i;
  if (i == steps.size()) return;
  axis.warnings.push_back(fmt::format(
      "{} has a gap between {:g} and {:g} degrees, where values are usually {:g} apart: the grid's "
      "cells beside it are as wide as half of it",
      what, axis.degrees[i], axis.degrees[i + 1], usual));
}

Axis arranged(Axis axis, const std::vector<double>& values, const std::vector<int64_t>& order) {
  for (const int64_t position : order) axis.degrees.push_back(values[position]);
  if (!std::is_sorted(order.begin(), order.end())) axis.order = at::tensor(order, at::kLong);
  return axis;
}

std::vector<int64_t> sorted_order(const std::vector<double>& values,
                                  const std::function<bool(double, double)>& before) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return before(values[a], values[b]); });
  return order;
}

}  // namespace

std::string coordinate_of(const NetcdfFile& file, const VariableInfo& variable,
                          const std::string& name) {
  std::string group = variable.name;
  while (!group.empty()) {
    const std::size_t slash = group.rfind('/');
    group = slash == std::string::npos ? "" : group.substr(0, slash);
    const std::string full = group.empty() ? name : group + "/" + name;
    if (file.has(full)) return full;
  }
  return {};
}

GridNames find_grid(const NetcdfFile& file, const VariableInfo& variable,
                    const DatasetOptions& options) {
  return {find_axis(file, variable, options.latitude, kLatitude, kLongitude),
          find_axis(file, variable, options.longitude, kLongitude, kLatitude)};
}

Axis read_latitudes(const NetcdfFile& file, const std::string& name) {
  const std::string what = file.path() + ": latitude '" + name + "'";
  Axis axis;
  std::vector<double> values = read_axis(file, name, what, kLongitude, axis);
  for (double& value : values) {
    if (std::abs(value) > 90 + kPoleRounding) {
      throw DataError(fmt::format("{} has {} degrees", what, value));
    }
    value = std::clamp(value, -90.0, 90.0);
  }
  axis = arranged(std::move(axis), values, sorted_order(values, std::greater<>()));
  if (values.size() > 1) check_spacing(what, median(steps_of(axis.degrees)), axis);
  return axis;
}

Axis read_longitudes(const NetcdfFile& file, const std::string& name) {
  const std::string what = file.path() + ": longitude '" + name + "'";
  Axis axis;
  std::vector<double> values = read_axis(file, name, what, kLatitude, axis);
  for (double& value : values) value -= 360 * std::floor((value + 180) / 360);
  std::vector<int64_t> order = sorted_order(values, std::less<>());
  if (values.size() < 2) return arranged(std::move(axis), values, order);
  // Gaps around the circle, each after the value of its position.
  std::vector<double> gaps;
  for (std::size_t i = 1; i < order.size(); ++i) {
    gaps.push_back(values[order[i]] - values[order[i - 1]]);
  }
  gaps.push_back(values[order.front()] + 360 - values[order.back()]);
  // Without the largest, which may be a region's way around the globe.
  std::vector<double> spacings = gaps;
  spacings.erase(std::max_element(spacings.begin(), spacings.end()));
  const double usual = median(std::move(spacings));
  if (gaps.back() < kSameValue * usual) fail_twice(what, values[order.front()]);
  const auto largest = std::max_element(gaps.begin(), gaps.end());
  if (*largest > kGap * usual && *largest > gaps.back() * (1 + kSameValue)) {
    std::rotate(order.begin(), order.begin() + (largest - gaps.begin()) + 1, order.end());
  }
  axis = arranged(std::move(axis), values, order);
  check_spacing(what, usual, axis);
  return axis;
}

}  // namespace isobar
