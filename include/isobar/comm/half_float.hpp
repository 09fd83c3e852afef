// SPDX-License-Identifier: Apache-2.0
// For kernels. LibTorch's conversions of at::Half hold branches, so loops over them are not
// vectorised, and took nearly three times as long. These give the same values (NaNs stay NaNs), on
// any processor.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace isobar {

/// The value of a narrower type in the wider one, in which it is exact.
template <typename A, typename T>
inline A widened_value(T value) {
  return static_cast<A>(value);
}

/// Exponent and fraction move to their places in a float, whose exponent is then 112 too low;
/// infinities and NaNs get their exponent by hand.
template <>
inline float widened_value<float, at::Half>(at::Half value) {
  const uint32_t magnitude = value.x & 0x7FFFU;
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  const uint32_t special = magnitude >= 0x7C00U ? 0x7F800000U : 0U;
  const uint32_t sign = static_cast<uint32_t>(value.x & 0x8000U) << 16;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}

/// The nearest value of the narrower type.
template <typename T, typename A>
inline T narrowed_value(A value) {
  return static_cast<T>(value);
}

/// As in LibTorch, the processor rounds: adding a power of two leaves only the bits that a half
/// has. Too large values become infinite by the two factors.
template <>
inline at::Half narrowed_value<at::Half, float>(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const float limited = std::fabs(value) * 0x1p112F * 0x1p-110F;
  const auto exponent = std::max(static_cast<int32_t>(bits & 0x7F800000U), 0x38800000);
  const auto rounded = std::bit_cast<uint32_t>(
      std::bit_cast<float>(static_cast<uint32_t>(exponent) + 0x07800000U) + limited);
  const uint32_t magnitude = ((rounded >> 13) & 0x7C00U) + (rounded & 0x0FFFU);
  const auto nan =
      static_cast<uint32_t>((0x7F800000 - static_cast<int32_t>(bits & 0x7FFFFFFFU)) >> 31);
  const uint32_t sign = bits >> 16 & 0x8000U;
  return {static_cast<uint16_t>(sign | (nan & 0x7E00U) | (~nan & magnitude)),
          at::Half::from_bits()};
}

}  // namespace isobar
