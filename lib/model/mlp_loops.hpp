// SPDX-License-Identifier: Apache-2.0
// The loops of mlp_kernels.cpp and segment_kernels.cpp, which alone include this: inlined into
// functions of which the compiler makes a version for each generation of processors.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#define ISOBAR_INLINE __attribute__((always_inline)) inline
#define ISOBAR_FOR_TYPES(LOOP) LOOP(float) LOOP(double) LOOP(c10::BFloat16)

namespace isobar {
namespace {

/// Calls body(T{}) for the type of `rows`, one of has_loops.
template <typename Body>
void with_type(const at::Tensor& rows, const Body& body) {
  switch (rows.scalar_type()) {
    case at::kFloat:
      return body(float{});
    case at::kDouble:
      return body(double{});
    default:
      return body(c10::BFloat16{});
  }
}

/// What a type is computed in.
template <typename T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <typename T>
using Wide = typename WideOf<T>::type;

ISOBAR_INLINE float widen(float x) { return x; }
ISOBAR_INLINE double widen(double x) { return x; }
ISOBAR_INLINE float widen(c10::BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16);
}

template <typename T>
ISOBAR_INLINE T narrow(Wide<T> x) {
  return x;
}
/// To the nearest, ties to even; infinity stays, and so does NaN, which these sums only meet where
/// training has failed.
template <>
ISOBAR_INLINE c10::BFloat16 narrow<c10::BFloat16>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t kept = x != x ? (bits >> 16) | 64 : rounded;
  return c10::BFloat16(static_cast<uint16_t>(kept), c10::BFloat16::from_bits());
}

/// e^x for x <= 0: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, expf), within 2 units
/// in the last place; 0 below -50, since what is smaller makes denormal numbers of a gelu's slope
/// times a gradient, of which a processor may take a hundred cycles each in the products after it.
ISOBAR_INLINE float exp_of_negative(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to a whole number
  const bool vanishes = x < -50.0F;
  x = vanishes ? -50.0F : x;
  const float shifted = x * std::numbers::log2e_v<float> + kMagic;
  const float n = shifted - kMagic;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kMagic);
  return vanishes ? 0.0F : p * std::bit_cast<float>((exponent + 127) << 23);
}

// Scalars alone go in and out of these: the compiler makes no vectors of loops over structures.

/// e^(-x^2 / 2)
ISOBAR_INLINE float bell_at(float x) { return exp_of_negative(-0.5F * x * x); }
ISOBAR_INLINE double bell_at(double x) { return std::exp(-0.5 * x * x); }

/// The cumulative normal distribution at x, given bell_at(x): by Abramowitz and Stegun 7.1.26,
/// within 7.5e-8, as LibTorch's vectorised erf.
ISOBAR_INLINE float cumulative_at(float x, float bell) {
  const float t = std::fabs(x) * (std::numbers::sqrt2_v<float> / 2);
  const float k = 1.0F / (1.0F + 0.3275911F * t);
  float p = 1.061405429F;
  p = p * k - 1.453152027F;
  p = p * k + 1.421413741F;
  p = p * k - 0.284496736F;
  p = p * k + 0.254829592F;
  const float tail = 0.5F * p * k * bell;
  return x < 0 ? tail : 1.0F - tail;
}
ISOBAR_INLINE double cumulative_at(double x, double) {
  return 0.5 * std::erfc(-x * (std::numbers::sqrt2 / 2));
}

/// The derivative of gelu, from what is known at x.
template <typename W>
ISOBAR_INLINE W slope_of(W x, W bell, W cumulative) {
  return cumulative + x * bell * W(0.398942280401432678);
}

/// from += a + b; to = gelu(from); with kSlope, from = the slope of gelu there, too.
template <typename T, bool kSlope>
ISOBAR_INLINE void add_gelu_row(int64_t width, const T* a, const T* b, T* from, T* to) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const T sum = narrow<T>(widen(from[c]) + (widen(a[c]) + widen(b[c])));
    const Wide<T> x = widen(sum), bell = bell_at(x), cumulative = cumulative_at(x, bell);
    from[c] = kSlope ? narrow<T>(slope_of(x, bell, cumulative)) : sum;
    to[c] = narrow<T>(x * cumulative);
  }
}

template <typename T, bool kSlope>
ISOBAR_INLINE void add_bias_gelu_row(int64_t width, const Wide<T>* bias, T* from, T* to) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const T sum = narrow<T>(widen(from[c]) + bias[c]);
    const Wide<T> x = widen(sum), bell = bell_at(x), cumulative = cumulative_at(x, bell);
    from[c] = kSlope ? narrow<T>(slope_of(x, bell, cumulative)) : sum;
    to[c] = narrow<T>(x * cumulative);
  }
}

/// value = gelu(from); gradient *= its slope there; sums += gradient.
template <typename T>
ISOBAR_INLINE void gelu_backward_row(int64_t width, const T* from, T* value, T* gradient,
                                     Wide<T>* sums) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const Wide<T> x = widen(from[c]);
    const Wide<T> bell = bell_at(x), cumulative = cumulative_at(x, bell);
    value[c] = narrow<T>(x * cumulative);
    const T product =
        narrow<T>(widen(gradient[c]) * widen(narrow<T>(slope_of(x, bell, cumulative))));
    gradient[c] = product;
    sums[c] += widen(product);
  }
}

/// gradient *= slope; sums += gradient.
template <typename T>
ISOBAR_INLINE void scale_and_sum_row(int64_t width, const T* slope, T* gradient, Wide<T>* sums) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const T product = narrow<T>(widen(gradient[c]) * widen(slope[c]));
    gradient[c] = product;
    sums[c] += widen(product);
  }
}

template <typename W>
struct Moments {
  W mean;
  W scale;  ///< 1 / sqrt(variance + epsilon)
};

template <typename T>
ISOBAR_INLINE Moments<Wide<T>> moments_of(int64_t width, const T* row) {
  using W = Wide<T>;
  W sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < width; ++c) sum += widen(row[c]);
  const W mean = sum / static_cast<W>(width);
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < width; ++c) {
    const W off = widen(row[c]) - mean;
    squares += off * off;
  }
  return {mean, 1 / std::sqrt(squares / static_cast<W>(width) + static_cast<W>(1e-5))};
}

/// to = residual + weight * normalised row + shift; a null residual counts as zero.
template <typename T, bool has_residual>
ISOBAR_INLINE void norm_row(int64_t width, const T* row, const Wide<T>* weight,
                            const Wide<T>* shift, const T* residual, T* to) {
  const Moments<Wide<T>> moments = moments_of(width, row);
  const Wide<T> mean = moments.mean, scale = moments.scale;
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    Wide<T> value = (widen(row[c]) - mean) * scale * weight[c] + shift[c];
    if constexpr (has_residual) value += widen(residual[c]);
    to[c] = narrow<T>(value);
  }
}

/// The gradient at the norm's input from that at its output; adds the row's share to the sums of
/// the weight's, the shift's and the input's gradients. With n = (x - mean) * scale, which mean and
/// scale make depend on all of the row, and d = gradient * weight, the first is
/// scale * (d - mean(d) - n * mean(d * n)) (Ba, Kiros and Hinton 2016, differentiated).
template <typename T>
ISOBAR_INLINE void norm_backward_row(int64_t width, const T* row, const Wide<T>* weight,
                                     const T* gradient, T* to, Wide<T>* weight_sums,
                                     Wide<T>* shift_sums, Wide<T>* bias_sums) {
  using W = Wide<T>;
  const Moments<Wide<T>> moments = moments_of(width, row);
  const Wide<T> mean = moments.mean, scale = moments.scale;
  W along = 0, total = 0;
#pragma omp simd reduction(+ : along, total)
  for (int64_t c = 0; c < width; ++c) {
    const W g = widen(gradient[c]) * weight[c];
    total += g;
    along += g * (widen(row[c]) - mean);
  }
  const W mean_d = total / static_cast<W>(width);
  const W slope = along * scale * scale / static_cast<W>(width);
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const W off = widen(row[c]) - mean, g = widen(gradient[c]);
    const T result = narrow<T>(scale * (g * weight[c] - mean_d - off * slope));
    to[c] = result;
    weight_sums[c] += g * off * scale;
    shift_sums[c] += g;
    bias_sums[c] += widen(result);
  }
}

}  // namespace
}  // namespace isobar
