// SPDX-License-Identifier: Apache-2.0
#include <isobar/graph/spectrum.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

namespace isobar::spectrum_test {
namespace {

constexpr double kDegree = std::numbers::pi / 180;

struct Quadrature {
  std::vector<double> latitudes, weights;
};

/// Gauss-Legendre by Newton's iteration: latitudes from north to south, weights that sum to 1.
Quadrature gauss(int64_t rings) {
  Quadrature result;
  for (int64_t i = 0; i < rings; ++i) {
    const auto n = static_cast<double>(rings);
    double x = std::cos(std::numbers::pi * (static_cast<double>(i) + 0.75) / (n + 0.5)), slope = 0;
    for (int k = 0; k < 20; ++k) {
      double p = 1, before = 0;
      for (int64_t l = 1; l <= rings; ++l) {
        const auto d = static_cast<double>(l);
        before = std::exchange(p, ((2 * d - 1) * x * p - (d - 1) * before) / d);
      }
      slope = n * (x * p - before) / (x * x - 1);
      x -= p / slope;
    }
    result.latitudes.push_back(std::asin(x) / kDegree);
    result.weights.push_back(1 / ((1 - x * x) * slope * slope));
  }
  return result;
}

/// An octahedral grid O<n>, without Atlas; a ring begins at `first` degrees east, and the one after
/// it `stagger` degrees farther.
Grid octahedral(int64_t n, double first = 0, double stagger = 0) {
  const auto [latitudes, weights] = gauss(2 * n);
  std::vector<double> latitude, longitude, area;
  for (int64_t r = 0; r < 2 * n; ++r) {
    const int64_t count = 4 * (std::min(r, 2 * n - 1 - r) + 1) + 16;
    for (int64_t k = 0; k < count; ++k) {
      latitude.push_back(latitudes[r]);
      longitude.push_back(first + stagger * static_cast<double>(r % 2) +
                          360.0 * static_cast<double>(k) / static_cast<double>(count));
      area.push_back(weights[r] / static_cast<double>(count));
    }
  }
  return {.latitude = at::tensor(latitude, at::kDouble),
          .longitude = at::tensor(longitude, at::kDouble),
          .area = at::tensor(area, at::kDouble),
          .regional = false,
          .name = "O" + std::to_string(n)};
}

/// [N, 1]: the real part of Y_l^m, by the standard library, whatever its scale.
at::Tensor harmonic(const Grid& grid, unsigned l, unsigned m) {
  auto field = at::empty({grid.size(), 1}, at::kDouble);
  for (int64_t i = 0; i < grid.size(); ++i) {
    const double colatitude = (90 - grid.latitude[i].item<double>()) * kDegree;
    const double longitude = grid.longitude[i].item<double>() * kDegree;
    field[i][0] = std::sph_legendre(l, m, colatitude) * std::cos(m * longitude);
  }
  return field;
}

double mean_square(const Grid& grid, const at::Tensor& field) {
  return (field.select(1, 0).square() * grid.area).sum().item<double>();
}

TEST(Spectrum, GivesAHarmonicAllItsPowerAtItsDegree) {
  for (const auto& grid : {octahedral(16), octahedral(16, -170, 7)}) {
    const Spectrum spectrum(grid);
    ASSERT_EQ(spectrum.wavenumbers(), 15);
    for (const auto& [l, m] :
         {std::pair{1, 0}, {1, 1}, {4, 2}, {7, 7}, {11, 3}, {15, 0}, {15, 9}}) {
      const auto field = harmonic(grid, l, m);
      const auto power = spectrum.power(field).select(1, 0);
      const double whole = mean_square(grid, field);
      EXPECT_NEAR(power[l - 1].item<double>(), whole, 1e-6 * whole) << l << " " << m;
      EXPECT_NEAR(power.sum().item<double>(), whole, 1e-6 * whole) << l << " " << m;
    }
  }
}

TEST(Spectrum, AddsUpToTheMeanSquareWithoutTheMean) {
  const auto grid = octahedral(16);
  auto field = at::full({grid.size(), 2}, 280.0, at::kDouble), wave = at::zeros({grid.size(), 1});
  at::manual_seed(3);
  for (unsigned l = 1; l <= 12; ++l) {
    for (unsigned m = 0; m <= l; ++m) wave = wave + at::randn({1}) * harmonic(grid, l, m);
  }
  field.select(1, 0).add_(wave.select(1, 0));
  const auto power = Spectrum(grid).power(field);
  EXPECT_NEAR(power.select(1, 0).sum().item<double>(), mean_square(grid, wave),
              1e-6 * mean_square(grid, wave));
  EXPECT_LT(power.select(1, 1).max().item<double>(), 1e-20) << "a constant has no scale";
}

TEST(Spectrum, FindsHarmonicsOnEvenlySpacedLatitudes) {
  std::vector<double> latitudes, longitudes;
  for (int i = 0; i < 72; ++i) latitudes.push_back(88.75 - 2.5 * i);
  for (int i = 0; i < 144; ++i) longitudes.push_back(177.5 - 2.5 * i);  // eastward or westward
  const auto grid = make_latlon_grid(latitudes, longitudes);
  const Spectrum spectrum(grid);
  ASSERT_EQ(spectrum.wavenumbers(), 35);
  for (const auto& [l, m] : {std::pair{2, 1}, {5, 5}, {9, 4}}) {
    const auto field = harmonic(grid, l, m);
    const auto power = spectrum.power(field).select(1, 0);
    const double whole = mean_square(grid, field);
    // The midpoint rule's error: (l · spacing)^2 / 24 at l = 9 is 0.6 %.
    EXPECT_NEAR(power[l - 1].item<double>(), whole, 0.02 * whole) << l << " " << m;
    EXPECT_NEAR(power.sum().item<double>(), whole, 0.02 * whole) << l << " " << m;
  }
}

TEST(Spectrum, OfARegionPeaksAtTheWavesNumber) {
  std::vector<double> latitudes, longitudes;
  for (int i = 0; i < 9; ++i) latitudes.push_back(60 - i);
  for (int i = 0; i < 33; ++i) longitudes.push_back(170 + i);  // over the date line
  const auto grid = make_latlon_grid(latitudes, longitudes);
  const Spectrum spectrum(grid);
  ASSERT_EQ(spectrum.wavenumbers(), 16);
  for (const int64_t k : {3, 8, 14}) {
    const auto angle = 2 * std::numbers::pi * static_cast<double>(k) / 33 * (grid.longitude - 170);
    const auto power = spectrum.power((280 + 3 * (angle + 0.4).cos()).unsqueeze(1)).select(1, 0);
    EXPECT_EQ(power.argmax().item<int64_t>(), k - 1);
    // Half of a cosine's square, under a window of mean square 1; two thirds of it at its place.
    EXPECT_NEAR(power.sum().item<double>(), 4.5, 1e-9);
    EXPECT_NEAR(power[k - 1].item<double>(), 3, 1e-9);
  }
}

TEST(Spectrum, OfARegionWeighsRowsByArea) {
  const auto grid = make_latlon_grid({80, 0}, {0, 1, 2, 3, 4, 5, 6, 7});
  auto field = at::zeros({16, 1}, at::kDouble);
  field.narrow(0, 0, 8).select(1, 0).copy_(
      (2 * std::numbers::pi * 2 / 8 * grid.longitude.narrow(0, 0, 8)).cos());
  const double area = grid.area.narrow(0, 0, 8).sum().item<double>();
  EXPECT_NEAR(Spectrum(grid).power(field).sum().item<double>(), 0.5 * area, 1e-12);
}

TEST(Spectrum, HasNoNumberWhereAFieldHasNone) {
  const auto grid = octahedral(4);
  auto field = at::ones({grid.size(), 2}, at::kDouble);
  field[5][0] = std::nan("");
  const auto power = Spectrum(grid).power(field);
  EXPECT_TRUE(power.select(1, 0).isnan().all().item<bool>());
  EXPECT_FALSE(power.select(1, 1).isnan().any().item<bool>());
}

TEST(Spectrum, RefusesPointsThatAreNoRings) {
  auto uneven = octahedral(4);
  uneven.longitude[1] = 5;
  EXPECT_THROW(Spectrum{uneven}, UsageError);
  auto scattered = octahedral(4);
  scattered.latitude[1] += 1;
  EXPECT_THROW(Spectrum{scattered}, UsageError);
  EXPECT_THROW(Spectrum{make_latlon_grid({50, 49}, {0, 1, 3, 4})}, UsageError);
  EXPECT_THROW(Spectrum{make_latlon_grid({50, 49}, {0, 1})}, UsageError);
  EXPECT_THROW(Spectrum(octahedral(4)).power(at::zeros({3, 1})), UsageError);
}

}  // namespace
}  // namespace isobar::spectrum_test
