// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/edges.hpp>
#include <ATen/core/Tensor.h>

namespace isobar {

/// [N] float64: the share of the sphere that is nearer to each point than to every
/// other one. The shares sum to 1.
///
/// These spherical Voronoi areas are what anemoi weighs data nodes by; assign them
/// to Grid::area in place of the weights that make_gaussian_grid gives. Coincident
/// points, such as a row of a latitude-longitude grid on a pole, share their cell
/// evenly; points on a common circle need no care. The result does not depend on
/// the number of threads, which are LibTorch's.
///
/// Throws UsageError where a cell reaches 90 degrees from its point, as those at
/// the edge of a region do: the points must cover the sphere.
at::Tensor voronoi_area(const Positions& points);

}  // namespace isobar
