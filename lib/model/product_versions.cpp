// SPDX-License-Identifier: Apache-2.0
#include "model/product_versions.hpp"

#include "model/product_tiles.hpp"

// One version, for whatever the compiler was told to compile for: of 16 bytes a vector, as SSE and
// NEON have them.

namespace isobar {
namespace {

template <typename T>
void multiply(const RowProduct<T>& p) {
  multiply_by_tiles<T, 16, 2, 6>(p);
}

struct Version {
  template <typename T, int kRows>
  __attribute__((noinline)) static void outer(int64_t rows, const T* a, int64_t a_stride,
                                              const T* panel, T* values) {
    outer_tile<T, 16, 2, kRows>(rows, a, a_stride, panel, values);
  }
};

template <typename T>
void sum(const GradientProduct<T>& p) {
  sum_by_tiles<T, 16, 2, 4, Version>(p);
}

}  // namespace

template <typename T>
const ProductVersion<T>& product_version() {
  static const ProductVersion<T> version{kPanel<T, 16, 2>, multiply<T>, sum<T>};
  return version;
}
template const ProductVersion<float>& product_version<float>();
template const ProductVersion<double>& product_version<double>();

}  // namespace isobar
