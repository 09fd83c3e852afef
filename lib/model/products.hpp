// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/product_versions.hpp"

// Products of many rows with a matrix, and sums of their outer products: what a network over a mesh
// spends its time on. LibTorch's products pack both sides anew at each call, and leave what follows
// to another pass over the rows; these pack the matrix once a pass, and are called by block of rows
// from the loops of mlp_kernels.cpp. float32 and float64 on the CPU have them; LibTorch's
// operations serve everything else. Results do not depend on the number of threads.

namespace isobar {

bool has_products(const at::Tensor& rows);

/// A matrix [depth, columns] that rows are multiplied with.
class Matrix {
 public:
  Matrix() = default;
  /// Of any strides. It may change afterwards: not all of it is copied.
  explicit Matrix(at::Tensor values);

  const at::Tensor& values() const { return values_; }
  int64_t depth() const { return values_.size(0); }
  int64_t columns() const { return values_.size(1); }

  /// rows [count, columns] = x [count, depth] · matrix, or += with `add`; one after another, on
  /// this thread. Needs has_products.
  template <typename T>
  void multiply(int64_t count, const T* x, T* rows, bool add) const {
    product_version<T>().multiply(
        {count, depth(), columns(), x, depth(), panels_.const_data_ptr<T>(), rows, columns(), add});
  }

 private:
  at::Tensor values_;
  at::Tensor panels_;  ///< see RowProduct
};

/// sum [m, n], float64 and with contiguous rows, += a^T · b, for a [R, m] and b [R, n].
struct OuterProducts {
  at::Tensor sum, a, b;
};

/// Adds all of them, of one type. What is added in float64 are products of rows that are summed in
/// that type: of 256 in float32 and float64 on the CPU; of 512, or as many as there are columns, in
/// 16 bits there; of all rows of the call elsewhere. In 16 bits each such product is LibTorch's,
/// and is rounded to 16 bits once, at its end.
void add_products(const std::vector<OuterProducts>& all);

}  // namespace isobar
