// SPDX-License-Identifier: Apache-2.0
#include "model/product_versions.hpp"

#include <ATen/Version.h>

#include <string>

#include "model/product_tiles.hpp"

// A version for each generation of x86 processors. LibTorch's choice is followed, which
// ATEN_CPU_CAPABILITY can lower: its products and these should be of one generation.

namespace isobar::detail {
namespace {

#define ISOBAR_VERSION(NAME, TARGET, BYTES, ROWS, GRADIENT_ROWS)                      \
  template <typename T>                                                               \
  __attribute__((target(TARGET))) void multiply_##NAME(const RowProduct<T>& p) {      \
    multiply_by_tiles<T, BYTES, 2, ROWS>(p);                                          \
  }                                                                                   \
  template <typename T>                                                               \
  __attribute__((target(TARGET))) void sum_##NAME(const GradientProduct<T>& p) {      \
    sum_by_tiles<T, BYTES, 2, GRADIENT_ROWS>(p);                                      \
  }                                                                                   \
  template <typename T>                                                               \
  constexpr ProductVersion<T> version_##NAME{kPanel<T, BYTES, 2>, multiply_##NAME<T>, \
                                             sum_##NAME<T>};

ISOBAR_VERSION(avx512, "arch=x86-64-v4,prefer-vector-width=512", 64, 8, 8)
ISOBAR_VERSION(avx2, "arch=x86-64-v3", 32, 6, 4)
ISOBAR_VERSION(sse2, "arch=x86-64", 16, 6, 4)
#undef ISOBAR_VERSION

template <typename T>
const ProductVersion<T>& choose() {
  const std::string generation = at::get_cpu_capability();
  if (generation == "AVX512" && __builtin_cpu_supports("x86-64-v4")) return version_avx512<T>;
  if (generation != "DEFAULT" && __builtin_cpu_supports("x86-64-v3")) return version_avx2<T>;
  return version_sse2<T>;
}

}  // namespace

template <typename T>
const ProductVersion<T>& product_version() {
  static const ProductVersion<T>& version = choose<T>();
  return version;
}
template const ProductVersion<float>& product_version<float>();
template const ProductVersion<double>& product_version<double>();

}  // namespace isobar::detail
