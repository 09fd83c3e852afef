// SPDX-License-Identifier: Apache-2.0
#include "model/product_versions.hpp"

#include "model/product_tiles.hpp"

// One version, for whatever the compiler was told to compile for: of 16 bytes a vector, as SSE and
// NEON have them.

namespace isobar::detail {
namespace {

template <typename T>
void multiply(const RowProduct<T>& p) {
  multiply_by_tiles<T, 16, 2, 6>(p);
}

template <typename T>
void sum(const GradientProduct<T>& p) {
  sum_by_tiles<T, 16, 2, 4>(p);
}

}  // namespace

template <typename T>
const ProductVersion<T>& product_version() {
  static const ProductVersion<T> version{kPanel<T, 16, 2>, multiply<T>, sum<T>};
  return version;
}
template const ProductVersion<float>& product_version<float>();
template const ProductVersion<double>& product_version<double>();

}  // namespace isobar::detail
