// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/grid.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace isobar {

/// Power of fields by wavenumber: which scales they have, and how much of each.
///
/// On a global grid whose points lie on rings of equal latitude, evenly spaced in longitude
/// (reduced Gaussian grids, latitude-longitude grids): by total wavenumber l of spherical
/// harmonics. Each ring's Fourier coefficients are summed up with associated Legendre functions
/// and the rings' areas as weights of the quadrature, up to T = R / 2 - 1 of R rings, T < 1900. The
/// functions have a mean square of 1 over the sphere, so the powers sum to that of a field without
/// its mean and smaller scales. Exact for Gaussian latitudes as far as the rings near the poles
/// have enough points; on evenly spaced latitudes the error falls as the square of the spacing.
///
/// On a regional latitude-longitude grid: by zonal wavenumber k, in periods over the grid's width,
/// of each row of n points without its mean and under a Hann window, up to (n - 1) / 2; the mean of
/// the rows by area. A wave of one wavenumber shows at its neighbours too (a quarter of its
/// height).
///
/// The mean, wavenumber 0, is left out: a forecast's bias says it better.
class Spectrum {
 public:
  /// Throws UsageError for a grid that is neither, or has fewer than 4 rings or points a row.
  explicit Spectrum(const Grid& grid);
  ~Spectrum();
  Spectrum(Spectrum&&) noexcept;
  Spectrum& operator=(Spectrum&&) noexcept;

  /// K: the wavenumbers are 1 to K.
  int64_t wavenumbers() const noexcept;

  /// [N, C] on the CPU, any floating type, to [K, C] float64, in the square of the fields' units.
  /// A field with a value that is no number has no power that is one.
  at::Tensor power(const at::Tensor& fields) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace isobar
