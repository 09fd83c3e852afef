// SPDX-License-Identifier: Apache-2.0
#include "graph/edge_attributes.hpp"

#include <ATen/ATen.h>

#include "graph/sphere.hpp"

namespace isobar::detail {
namespace {

// The convention below was checked against the edges that anemoi-graphs stored for O32 and an
// icosphere of level 3: they agree to 7e-5, the rounding of its float32 positions; a few of them
// are in tests/graph/edges_test.cpp.

/// Great-circle distance by the haversine formula, which is exact for short edges.
at::Tensor haversine(const at::Tensor& lat_s, const at::Tensor& lat_d, const at::Tensor& dlon) {
  const at::Tensor a =
      ((lat_d - lat_s) / 2).sin().square() + lat_s.cos() * lat_d.cos() * (dlon / 2).sin().square();
  return 2 * a.clamp(0, 1).sqrt().asin();
}

/// [E, 2] unit vectors. Longitudes are turned so that the destination is at 0, the destination is
/// tilted to the pole, and longitudes are turned back: together the rotation along its meridian.
/// Written with its longitude, it is defined for a destination at the south pole, too.
at::Tensor directions(const at::Tensor& lat_s, const at::Tensor& lat_d, const at::Tensor& lon_d,
                      const at::Tensor& dlon) {
  const at::Tensor along = lat_s.cos() * dlon.cos() * lat_d.sin() - lat_s.sin() * lat_d.cos();
  const at::Tensor across = lat_s.cos() * dlon.sin();
  const at::Tensor xy = at::stack(
      {along * lon_d.cos() - across * lon_d.sin(), along * lon_d.sin() + across * lon_d.cos()}, 1);
  const at::Tensor length = at::hypot(along, across).unsqueeze(1);
  constexpr double coincident = 1e-9;  // 6 mm on the Earth: what is left there is rounding
  return at::where(length > coincident, xy / length, at::zeros_like(xy));
}

/// Divided by the standard deviation; as it is where that is 0 or undefined.
at::Tensor over_std(const at::Tensor& values) {
  if (values.numel() < 2) return values;
  const double deviation = values.std(/*unbiased=*/true).item<double>();
  return deviation > 0 ? values / deviation : values;
}

}  // namespace

at::Tensor edge_attributes(const Positions& sources, const Positions& destinations,
                           const at::Tensor& source, const at::Tensor& destination) {
  const at::Tensor lat_s = sources.latitude.index_select(0, source) * kRadiansPerDegree;
  const at::Tensor lon_s = sources.longitude.index_select(0, source) * kRadiansPerDegree;
  const at::Tensor lat_d = destinations.latitude.index_select(0, destination) * kRadiansPerDegree;
  const at::Tensor lon_d = destinations.longitude.index_select(0, destination) * kRadiansPerDegree;
  const at::Tensor dlon = lon_s - lon_d;
  return at::cat({over_std(haversine(lat_s, lat_d, dlon)).unsqueeze(1),
                  over_std(directions(lat_s, lat_d, lon_d, dlon))},
                 1)
      .to(at::kFloat);
}

}  // namespace isobar::detail
