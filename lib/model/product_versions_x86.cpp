// SPDX-License-Identifier: Apache-2.0
#include "model/product_versions.hpp"

#include <ATen/Version.h>

#include <string>

#include "model/product_tiles.hpp"

// A version for each generation of x86 processors. LibTorch's choice is followed, which
// ATEN_CPU_CAPABILITY can lower: its products and these should be of one generation.

namespace isobar {
namespace {

#define ISOBAR_VERSION(NAME, TARGET, BYTES, ROWS, GRADIENT_ROWS)                                  \
  struct Version_##NAME {                                                                         \
    template <typename T, int kRows>                                                              \
    __attribute__((target(TARGET), noinline)) static void outer(int64_t rows, const T* a,         \
                                                                int64_t a_stride, const T* panel, \
                                                                T* values) {                      \
      outer_tile<T, BYTES, 2, kRows>(rows, a, a_stride, panel, values);                           \
    }                                                                                             \
  };                                                                                              \
  template <typename T>                                                                           \
  __attribute__((target(TARGET))) void multiply_##NAME(const RowProduct<T>& p) {                  \
    multiply_by_tiles<T, BYTES, 2, ROWS>(p);                                                      \
  }                                                                                               \
  template <typename T>                                                                           \
  __attribute__((target(TARGET))) void sum_##NAME(const GradientProduct<T>& p) {                  \
    sum_by_tiles<T, BYTES, 2, GRADIENT_ROWS, Version_##NAME>(p);                                  \
  }                                                                                               \
  template <typename T>                                                                           \
  constexpr ProductVersion<T> version_##NAME{kPanel<T, BYTES, 2>, multiply_##NAME<T>,             \
                                             sum_##NAME<T>};

#ifdef __clang__  // which knows no such preference, and takes the width of the tiles' vectors
ISOBAR_VERSION(avx512, "arch=x86-64-v4", 64, 8, 8)
#else
ISOBAR_VERSION(avx512, "arch=x86-64-v4,prefer-vector-width=512", 64, 8, 8)
#endif
ISOBAR_VERSION(avx2, "arch=x86-64-v3", 32, 6, 6)
ISOBAR_VERSION(sse2, "arch=x86-64", 16, 6, 4)
#undef ISOBAR_VERSION

// By their parts: Clang only takes the names of the levels since its 17th version.
bool has_level_3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

bool has_level_4() {
  return has_level_3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

template <typename T>
const ProductVersion<T>& choose() {
  const std::string generation = at::get_cpu_capability();
  if (generation == "AVX512" && has_level_4()) return version_avx512<T>;
  if (generation != "DEFAULT" && has_level_3()) return version_avx2<T>;
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

}  // namespace isobar
