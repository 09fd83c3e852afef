// SPDX-License-Identifier: Apache-2.0
// Scores of a checkpoint ask for it: every rank makes one of the whole grid and calls power() on
// the thread that scores. Nothing here communicates.
//
// A global field is analysed ring by ring: Fourier coefficients of each ring, then for each order m
// their sums over the rings with the Legendre functions and the rings' areas as weights of the
// quadrature. Hence rings have to be whole and evenly spaced, which the constructor checks: on any
// other grid the powers would be numbers that mean nothing.
#include <isobar/graph/spectrum.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "graph/legendre.hpp"

namespace isobar {
namespace {

// Longitudes stored as float32 are even only up to their rounding; degrees.
constexpr double kEven = 1e-3;

/// Points of one latitude, in a row.
struct Ring {
  int64_t begin = 0, count = 0;
  double sine = 0;       ///< of the latitude
  double area = 0;       ///< of all its points
  double longitude = 0;  ///< of its first point, radians
  double spacing = 0;    ///< degrees
};

Ring ring_of(const Grid& grid, int64_t begin, int64_t end) {
  const auto longitude = grid.longitude.narrow(0, begin, end - begin);
  Ring ring{begin, end - begin};
  ring.sine = std::sin(grid.latitude[begin].item<double>() * std::numbers::pi / 180);
  ring.area = grid.area.narrow(0, begin, ring.count).sum().item<double>();
  ring.longitude = longitude[0].item<double>() * std::numbers::pi / 180;
  if (ring.count < 2) return ring;
  // Each step the short way, over the date line too.
  const auto steps = longitude.diff() - 360 * (longitude.diff() / 360).round();
  ring.spacing = steps.mean().item<double>();
  ISOBAR_CHECK((steps - ring.spacing).abs().max().item<double>() < kEven, "Spectrum: grid '",
               grid.name, "' has unevenly spaced points at latitude ",
               grid.latitude[begin].item<double>(),
               "; wanted a reduced Gaussian or a regular latitude-longitude grid");
  return ring;
}

std::vector<Ring> rings_of(const Grid& grid) {
  const auto latitude = grid.latitude.contiguous();
  const auto* value = latitude.const_data_ptr<double>();
  std::vector<Ring> rings;
  for (int64_t begin = 0, end = 0; begin < grid.size(); begin = end) {
    while (end < grid.size() && value[end] == value[begin]) ++end;
    rings.push_back(ring_of(grid, begin, end));
  }
  return rings;
}

void check_global(const Grid& grid, const std::vector<Ring>& rings) {
  ISOBAR_CHECK(rings.size() >= 4, "Spectrum: grid '", grid.name, "' has ", rings.size(),
               " latitudes; wanted at least 4");
  for (const Ring& ring : rings) {
    const double around = std::abs(ring.spacing) * static_cast<double>(ring.count);
    ISOBAR_CHECK(std::abs(around - 360) < kEven * static_cast<double>(ring.count),
                 "Spectrum: grid '", grid.name, "' is not made of whole rings: ", ring.count,
                 " points of one latitude, ", ring.spacing, " degrees apart");
  }
}

void check_regional(const Grid& grid, const std::vector<Ring>& rows) {
  const Ring& first = rows.front();
  ISOBAR_CHECK(first.count >= 4, "Spectrum: grid '", grid.name, "' has ", first.count,
               " points a row; wanted at least 4");
  for (const Ring& row : rows) {
    ISOBAR_CHECK(row.count == first.count && std::abs(row.spacing - first.spacing) < kEven,
                 "Spectrum: grid '", grid.name,
                 "' is regional and its rows differ; wanted a regular latitude-longitude grid");
  }
}

int64_t truncation_of(const std::vector<Ring>& rings) {
  int64_t points = 0;
  for (const Ring& ring : rings) points = std::max(points, ring.count);
  return std::min({std::ssize(rings) / 2 - 1, (points - 1) / 2, kLargestDegree});
}

/// [M + 1, C] complex: a ring's Fourier coefficients of orders 0 to M, those that its points
/// can tell apart.
at::Tensor coefficients(const at::Tensor& fields, const Ring& ring, int64_t truncation) {
  const int64_t orders = std::min((ring.count - 1) / 2, truncation) + 1;
  const auto values = fields.narrow(0, ring.begin, ring.count);
  auto result = at::fft_rfft(values, {}, 0, "forward").narrow(0, 0, orders);
  if (ring.spacing < 0) result = result.conj();
  const auto angle = -ring.longitude * at::arange(orders, at::kDouble).unsqueeze(1);
  return result * at::polar(at::ones_like(angle), angle);
}

}  // namespace

struct Spectrum::Impl {
  std::vector<Ring> rings;
  at::Tensor sine;  ///< [R] float64
  at::Tensor area;  ///< [R] float64, of each ring; sums to 1
  at::Tensor point_area;
  bool regional = false;
  int64_t wavenumbers = 0;

  at::Tensor spherical(const at::Tensor& fields) const;
  at::Tensor zonal(const at::Tensor& fields) const;
};

/// The power of degree l is that of its orders, of which those above 0 stand for -m too.
at::Tensor Spectrum::Impl::spherical(const at::Tensor& fields) const {
  const int64_t truncation = wavenumbers;
  // [M + 1, R, C]: the weights of the quadrature are in it.
  auto fourier = at::zeros({truncation + 1, std::ssize(rings), fields.size(1)}, at::kComplexDouble);
  for (int64_t r = 0; r < std::ssize(rings); ++r) {
    const auto own = coefficients(fields, rings[r], truncation) * area[r];
    fourier.select(1, r).narrow(0, 0, own.size(0)).copy_(own);
  }
  auto power = at::zeros({truncation + 1, fields.size(1)}, at::kDouble);
  LegendreColumns legendre(sine, truncation);
  for (int64_t m = 0; m <= truncation; ++m) {
    const auto functions = legendre.next();
    const auto parts = at::view_as_real(fourier[m]);  // [R, C, 2]
    const auto sums = functions.matmul(parts.reshape({parts.size(0), -1}))
                          .view({functions.size(0), fields.size(1), 2});
    power.narrow(0, m, functions.size(0)).add_(sums.square().sum(-1), m == 0 ? 1 : 2);
  }
  return power.narrow(0, 1, truncation);
}

at::Tensor Spectrum::Impl::zonal(const at::Tensor& fields) const {
  const int64_t columns = rings.front().count;
  const auto rows = fields.view({std::ssize(rings), columns, fields.size(1)});
  const auto window = at::hann_window(columns, /*periodic=*/true, fields.options());
  const auto scaled = window / window.square().mean().sqrt();
  const auto tapered = (rows - rows.mean(1, /*keepdim=*/true)) * scaled.view({1, -1, 1});
  const auto waves = at::fft_rfft(tapered, {}, 1, "forward").narrow(1, 1, wavenumbers);
  return (2 * waves.abs().square() * area.view({-1, 1, 1})).sum(0);
}

Spectrum::Spectrum(const Grid& grid) {
  auto impl = std::make_unique<Impl>();
  impl->rings = rings_of(grid);
  impl->regional = grid.regional;
  impl->point_area = grid.area.unsqueeze(1);
  if (grid.regional) {
    check_regional(grid, impl->rings);
    impl->wavenumbers = (impl->rings.front().count - 1) / 2;
  } else {
    check_global(grid, impl->rings);
    impl->wavenumbers = truncation_of(impl->rings);
  }
  std::vector<double> sine, area;
  for (const Ring& ring : impl->rings) {
    sine.push_back(ring.sine);
    area.push_back(ring.area);
  }
  impl->sine = at::tensor(sine, at::kDouble);
  impl->area = at::tensor(area, at::kDouble);
  impl_ = std::move(impl);
}

Spectrum::~Spectrum() = default;
Spectrum::Spectrum(Spectrum&&) noexcept = default;
Spectrum& Spectrum::operator=(Spectrum&&) noexcept = default;

int64_t Spectrum::wavenumbers() const noexcept { return impl_->wavenumbers; }

at::Tensor Spectrum::power(const at::Tensor& fields) const {
  const auto points = impl_->point_area.size(0);
  ISOBAR_CHECK(fields.dim() == 2 && fields.size(0) == points && fields.is_cpu(),
               "Spectrum: fields are ", fields.sizes(), "; wanted [", points, ", C] on the CPU");
  const auto values = fields.to(at::kDouble).contiguous();
  if (impl_->regional) return impl_->zonal(values);
  // A large mean would show in other wavenumbers by what the quadrature errs.
  return impl_->spherical(values - (values * impl_->point_area).sum(0));
}

}  // namespace isobar
