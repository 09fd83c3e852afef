// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// What products.cpp calls: the loops of product_tiles.hpp, for the processor that the program runs
// on. They run on the calling thread.

namespace isobar {

/// Rows whose products are summed in their own type. A gradient sums many terms that cancel: over
/// all rows in float32, it would depend by some 1e-6 of its size on how these are shared out.
constexpr int64_t kSummedRows = 256;

/// out [rows, columns] = x [rows, depth] · matrix, or += with `add`. `panels` has the matrix
/// [depth, columns] as panels [depth, width], one after another; the last is filled with zeros.
template <typename T>
struct RowProduct {
  int64_t rows, depth, columns;
  const T* x;
  int64_t x_stride;
  const T* panels;
  T* out;
  int64_t out_stride;
  bool add;
};

/// sum [a_columns, b_columns] += a^T · b, a [rows, a_columns] and b [rows, b_columns], of which no
/// more than one panel's width.
template <typename T>
struct GradientProduct {
  int64_t rows, a_columns, b_columns;
  const T* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  double* sum;
  int64_t sum_stride;
};

template <typename T>
struct ProductVersion {
  int64_t width;  ///< columns of a panel
  void (*multiply)(const RowProduct<T>&);
  void (*sum)(const GradientProduct<T>&);
};

/// Of float and double.
template <typename T>
const ProductVersion<T>& product_version();

}  // namespace isobar
