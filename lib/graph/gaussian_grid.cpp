// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/grid.hpp>
#include <ATen/ATen.h>
#include <atlas/grid/detail/pl/classic_gaussian/PointsPerLatitude.h>
#include <atlas/util/GaussianLatitudes.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "graph/sphere.hpp"

// Atlas's StructuredGrid("N320") would give the same points, but making one
// initialises eckit's communicators, and with them MPI under a launcher, at
// MPI_THREAD_SINGLE. The two functions used here are pure.

namespace isobar {
namespace {

constexpr int64_t kLargestN = 8000;

// The classic grids that Atlas 0.31 has. Asking it for another one throws, but
// also writes to standard error.
constexpr std::array<int64_t, 23> kClassic = {16,  24,   32,   48,   64,   80,   96,  128,
                                              160, 200,  256,  320,  400,  512,  576, 640,
                                              800, 1024, 1280, 1600, 2000, 4000, 8000};

/// The number in "N320", or 0 where there is none.
int64_t parse_number(const std::string& name) {
  int64_t number = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] =
      std::from_chars(name.data() + std::min<size_t>(1, name.size()), end, number);
  return error == std::errc() && stop == end ? number : 0;
}

std::vector<long> octahedral_rows(int64_t n) {
  std::vector<long> points(2 * n);
  for (int64_t i = 0; i < n; ++i) {
    points[i] = points[2 * n - 1 - i] = 4 * (i + 1) + 16;
  }
  return points;
}

std::vector<long> classic_rows(const std::string& name, int64_t n) {
  ISOBAR_CHECK(std::find(kClassic.begin(), kClassic.end(), n) != kClassic.end(),
               "make_gaussian_grid: there is no classic grid ", name,
               "; N16, N32, N48, N64, N80, N96, N128, N160, N256, N320 are among those there are");
  std::vector<long> points(2 * n);
  atlas::grid::detail::pl::classic_gaussian::points_per_latitude_npole_spole(n, points.data());
  return points;
}

struct Quadrature {
  std::vector<double> latitudes;  // degrees, north to south
  std::vector<double> weights;    // sum to 1
};

Quadrature gaussian_quadrature(int64_t n) {
  Quadrature result{std::vector<double>(2 * n), std::vector<double>(2 * n)};
  atlas::util::gaussian_quadrature_npole_spole(n, result.latitudes.data(), result.weights.data());
  return result;
}

}  // namespace

Grid make_gaussian_grid(const std::string& name) {
  const int64_t n = parse_number(name);
  const bool octahedral = name.starts_with('O');
  ISOBAR_CHECK((octahedral || name.starts_with('N')) && n >= 1 && n <= kLargestN,
               "make_gaussian_grid: wanted N or O and a number up to ", kLargestN,
               ", such as N320 or O96, got '", name, "'");
  const std::vector<long> points = octahedral ? octahedral_rows(n) : classic_rows(name, n);
  const auto [latitudes, weights] = gaussian_quadrature(n);

  std::vector<double> latitude, longitude, area;
  for (size_t row = 0; row < points.size(); ++row) {
    const double count = static_cast<double>(points[row]);
    latitude.insert(latitude.end(), points[row], latitudes[row]);
    area.insert(area.end(), points[row], weights[row] / count);
    for (long k = 0; k < points[row]; ++k) {
      longitude.push_back(360.0 * static_cast<double>(k) / count);
    }
  }
  const at::Tensor unscaled = to_tensor(area);
  return {.latitude = to_tensor(latitude),
          .longitude = to_tensor(longitude),
          .area = unscaled / unscaled.sum(),
          .regional = false,
          .name = name};
}

}  // namespace isobar
