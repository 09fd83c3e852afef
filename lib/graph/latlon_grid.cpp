// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/grid.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "graph/sphere.hpp"

namespace isobar {
namespace {

// Axes stored as float32 make spacings that differ by rounding, and those of Gaussian latitudes
// differ by themselves; a missing column makes one twice as wide.
constexpr double kLargestStep = 1.5;

void check_axis(const std::vector<double>& axis, const char* name) {
  ISOBAR_CHECK(axis.size() >= 2, "make_latlon_grid: ", name, " needs at least 2 values, got ",
               axis.size());
  const bool rising = axis[1] > axis[0];
  for (size_t i = 1; i < axis.size(); ++i) {
    ISOBAR_CHECK(std::isfinite(axis[i - 1]) && std::isfinite(axis[i]) && axis[i] != axis[i - 1] &&
                     (axis[i] > axis[i - 1]) == rising,
                 "make_latlon_grid: ", name, " must rise or fall strictly, got ", axis[i - 1],
                 " and then ", axis[i], " at position ", i);
  }
}

/// Longitudes made continuous over the date line: each step is the short way.
std::vector<double> unwrapped(std::vector<double> longitudes) {
  for (size_t i = 1; i < longitudes.size(); ++i) {
    const double step = std::remainder(longitudes[i] - longitudes[i - 1], 360.0);
    longitudes[i] = longitudes[i - 1] + step;
  }
  return longitudes;
}

/// The n + 1 bounds of n cells: half way between points, and as far beyond the
/// outermost.
std::vector<double> cell_bounds(const std::vector<double>& axis) {
  const size_t n = axis.size();
  std::vector<double> bounds(n + 1);
  for (size_t i = 1; i < n; ++i) {
    bounds[i] = 0.5 * (axis[i - 1] + axis[i]);
  }
  bounds[0] = 2 * axis[0] - bounds[1];
  bounds[n] = 2 * axis[n - 1] - bounds[n - 1];
  return bounds;
}

/// What most neighbours are apart: a region may have a gap that is larger than what is left open.
double usual_spacing(const std::vector<double>& axis) {
  std::vector<double> spacings;
  for (size_t i = 1; i < axis.size(); ++i) spacings.push_back(std::abs(axis[i] - axis[i - 1]));
  const auto middle = spacings.begin() + static_cast<int64_t>(spacings.size() / 2);
  std::nth_element(spacings.begin(), middle, spacings.end());
  return *middle * kLargestStep;
}

bool closes_circle(const std::vector<double>& longitudes) {
  return 360.0 - std::abs(longitudes.back() - longitudes.front()) <= usual_spacing(longitudes);
}

bool reaches_poles(const std::vector<double>& latitudes) {
  const auto [low, high] = std::minmax(latitudes.front(), latitudes.back());
  const double spacing = usual_spacing(latitudes);
  return 90.0 - high <= spacing && low + 90.0 <= spacing;
}

/// [n] sin(upper) - sin(lower) of each row's cells.
at::Tensor row_heights(const std::vector<double>& latitudes, bool global) {
  std::vector<double> bounds = cell_bounds(latitudes);
  if (global) {
    bounds.front() = std::copysign(90.0, bounds.front());
    bounds.back() = std::copysign(90.0, bounds.back());
  }
  for (double& bound : bounds) {
    bound = std::sin(std::clamp(bound, -90.0, 90.0) * kRadiansPerDegree);
  }
  return to_tensor(bounds).diff().abs();
}

}  // namespace

Grid make_latlon_grid(const std::vector<double>& latitudes, const std::vector<double>& longitudes) {
  check_axis(latitudes, "latitudes");
  const auto [low, high] = std::minmax(latitudes.front(), latitudes.back());
  ISOBAR_CHECK(low >= -90.0 && high <= 90.0,
               "make_latlon_grid: latitudes must lie in [-90, 90], got ", low, " to ", high);
  const std::vector<double> continuous = unwrapped(longitudes);
  check_axis(continuous, "longitudes");
  ISOBAR_CHECK(std::abs(continuous.back() - continuous.front()) < 360.0 - 1e-6,
               "make_latlon_grid: longitudes must not repeat, got ", longitudes.front(), " to ",
               longitudes.back(), ", a full circle; leave the last one out");

  const int64_t rows = static_cast<int64_t>(latitudes.size());
  const int64_t columns = static_cast<int64_t>(longitudes.size());
  const bool global = closes_circle(continuous) && reaches_poles(latitudes);
  const at::Tensor widths = to_tensor(cell_bounds(continuous)).diff().abs();
  const at::Tensor area = at::outer(row_heights(latitudes, global), widths).flatten();
  return {.latitude = to_tensor(latitudes).repeat_interleave(columns),
          .longitude = to_tensor(longitudes).repeat({rows}),
          .area = area / area.sum(),
          .regional = !global,
          .name = "latlon-" + std::to_string(rows) + "x" + std::to_string(columns)};
}

}  // namespace isobar
