// SPDX-License-Identifier: Apache-2.0
#include "graph/edge_attributes.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "graph/chunks.hpp"
#include "graph/sphere.hpp"

namespace isobar {
namespace {

// The convention below was checked against the edges that anemoi-graphs stored for O32 and an
// icosphere of level 3: they agree to 7e-5, the rounding of its float32 positions; a few of them
// are in tests/graph/gaussian_grid_test.cpp.

/// A destination, and the directions in which its meridian and its parallel leave it. Written with
/// its longitude, they are defined at a pole, too.
struct Frame {
  UnitVector point;
  double sin_latitude, cos_latitude, sin_longitude, cos_longitude;

  double southward(const UnitVector& v) const {
    return sin_latitude * (cos_longitude * v[0] + sin_longitude * v[1]) - cos_latitude * v[2];
  }
  double eastward(const UnitVector& v) const { return cos_longitude * v[1] - sin_longitude * v[0]; }
};

std::vector<Frame> frames(const Positions& positions) {
  const std::vector<UnitVector> points = unit_vectors(positions.latitude, positions.longitude);
  const auto lat = positions.latitude.to(at::kDouble).contiguous();
  const auto lon = positions.longitude.to(at::kDouble).contiguous();
  std::vector<Frame> result(points.size());
  for_each_chunk(lat.numel(), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double phi = lat.const_data_ptr<double>()[i] * kRadiansPerDegree;
      const double lambda = lon.const_data_ptr<double>()[i] * kRadiansPerDegree;
      result[i] = {points[i], std::sin(phi), std::cos(phi), std::sin(lambda), std::cos(lambda)};
    }
  });
  return result;
}

/// Length and direction of one edge, before scaling.
UnitVector measure(const UnitVector& source, const Frame& destination) {
  // Differences of nearby points are exact, so that short edges keep their digits.
  const UnitVector chord{source[0] - destination.point[0], source[1] - destination.point[1],
                         source[2] - destination.point[2]};
  const double half =
      0.5 * std::sqrt(chord[0] * chord[0] + chord[1] * chord[1] + chord[2] * chord[2]);
  // Longitudes are turned so that the destination is at 0, the destination is tilted to the pole,
  // and longitudes are turned back: together the rotation along its meridian.
  const double along = destination.southward(chord), across = destination.eastward(chord);
  const double length = std::sqrt(along * along + across * across);
  constexpr double coincident = 1e-9;  // 6 mm on the Earth: what is left there is rounding
  const double scale = length > coincident ? 1 / length : 0;
  const double x = along * destination.cos_longitude - across * destination.sin_longitude;
  const double y = along * destination.sin_longitude + across * destination.cos_longitude;
  return {2 * std::asin(std::min(1.0, half)), x * scale, y * scale};
}

/// One over the standard deviation (unbiased) of the columns first to last - 1 taken together; one
/// where that is 0 or undefined.
double over_deviation(std::span<const UnitVector> rows, size_t first, size_t last) {
  const auto sum = [&](const auto& term) {
    return chunked_sum(std::ssize(rows), [&](int64_t begin, int64_t end) {
      double partial = 0;
      for (int64_t i = begin; i < end; ++i) {
        for (size_t column = first; column < last; ++column) partial += term(rows[i][column]);
      }
      return partial;
    });
  };
  const auto count = static_cast<double>(rows.size() * (last - first));
  if (count < 2) return 1;
  const double mean = sum([](double value) { return value; }) / count;
  const double squares = sum([&](double value) { return (value - mean) * (value - mean); });
  return squares > 0 ? 1 / std::sqrt(squares / (count - 1)) : 1;
}

}  // namespace

at::Tensor edge_attributes(const Positions& sources, const Positions& destinations,
                           const at::Tensor& source, const at::Tensor& destination) {
  const std::vector<UnitVector> from = unit_vectors(sources.latitude, sources.longitude);
  const std::vector<Frame> to = frames(destinations);
  const auto* source_data = source.const_data_ptr<int64_t>();
  const auto* destination_data = destination.const_data_ptr<int64_t>();
  std::vector<UnitVector> rows(source.size(0));
  for_each_chunk(source.size(0), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      rows[i] = measure(from[source_data[i]], to[destination_data[i]]);
    }
  });

  const double of_length = over_deviation(rows, 0, 1), of_direction = over_deviation(rows, 1, 3);
  at::Tensor attributes = at::empty({source.size(0), 3}, at::kFloat);
  auto* out = attributes.mutable_data_ptr<float>();
  for_each_chunk(source.size(0), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[3 * i] = static_cast<float>(rows[i][0] * of_length);
      out[3 * i + 1] = static_cast<float>(rows[i][1] * of_direction);
      out[3 * i + 2] = static_cast<float>(rows[i][2] * of_direction);
    }
  });
  return attributes;
}

}  // namespace isobar
