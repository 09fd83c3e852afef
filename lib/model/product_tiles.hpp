// SPDX-License-Identifier: Apache-2.0
// The inner loops of products.cpp, inlined into a function for each generation of processors
// (product_versions*.cpp alone include this). A tile of the result stays in registers while the
// summed index runs: `kRows` rows of `kVectors` vectors of `kBytes`, which with the panel's row and
// one value of `x` are as many registers as there are. GCC and Clang make one instruction of an
// operation on such vectors where the processor has it, and several where it has not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "model/product_versions.hpp"

#define ISOBAR_INLINE __attribute__((always_inline)) inline

namespace isobar {
namespace {

template <typename T, int kBytes>
struct VectorOf {
  // May lie anywhere, and in memory of T.
  typedef T type __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
};

template <typename T, int kBytes, int kVectors>
constexpr int64_t kPanel = kVectors* kBytes / static_cast<int64_t>(sizeof(T));

/// out [kRows, panel] (+)= x [kRows, depth] · panel [depth, panel].
template <typename T, int kBytes, int kVectors, int kRows>
ISOBAR_INLINE void product_tile(int64_t depth, const T* x, int64_t x_stride, const T* panel, T* out,
                                int64_t out_stride, bool add) {
  using V = typename VectorOf<T, kBytes>::type;
  constexpr int64_t kLanes = kPanel<T, kBytes, 1>;
  V sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = add ? *reinterpret_cast<const V*>(out + r * out_stride + v * kLanes) : V{};
    }
  }
  for (int64_t i = 0; i < depth; ++i, panel += kVectors * kLanes) {
    V right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = *reinterpret_cast<const V*>(panel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V left = x[r * x_stride + i] - V{};
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      *reinterpret_cast<V*>(out + r * out_stride + v * kLanes) = sum[r][v];
    }
  }
}

/// The same of a panel of which only `columns` are the result's.
template <typename T, int kBytes, int kVectors, int kRows>
ISOBAR_INLINE void narrow_tile(int64_t depth, const T* x, int64_t x_stride, const T* panel, T* out,
                               int64_t out_stride, int64_t columns, bool add) {
  constexpr int64_t kWidth = kPanel<T, kBytes, kVectors>;
  if (columns >= kWidth) {
    product_tile<T, kBytes, kVectors, kRows>(depth, x, x_stride, panel, out, out_stride, add);
    return;
  }
  T tile[kRows * kWidth];
  product_tile<T, kBytes, kVectors, kRows>(depth, x, x_stride, panel, tile, kWidth, false);
  for (int r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      T& to = out[r * out_stride + c];
      to = add ? to + tile[r * kWidth + c] : tile[r * kWidth + c];
    }
  }
}

template <typename T, int kBytes, int kVectors, int kRows>
ISOBAR_INLINE void multiply_by_tiles(const RowProduct<T>& p) {
  constexpr int64_t kWidth = kPanel<T, kBytes, kVectors>;
  for (int64_t column = 0; column < p.columns; column += kWidth) {
    const T* const panel = p.panels + column * p.depth;
    const int64_t columns = p.columns - column;
    const auto tiles = [&]<int kTile>(int64_t row) __attribute__((always_inline)) {
      for (; row + kTile <= p.rows; row += kTile) {
        narrow_tile<T, kBytes, kVectors, kTile>(p.depth, p.x + row * p.x_stride, p.x_stride, panel,
                                                p.out + row * p.out_stride + column, p.out_stride,
                                                columns, p.add);
      }
      return row;
    };
    int64_t row = tiles.template operator()<kRows>(0);
    if constexpr (kRows > 4) row = tiles.template operator()<4>(row);
    row = tiles.template operator()<2>(row);
    tiles.template operator()<1>(row);
  }
}

/// values [kRows, panel] = a^T · panel over `rows`, for kRows columns of `a`.
template <typename T, int kBytes, int kVectors, int kRows>
ISOBAR_INLINE void outer_tile(int64_t rows, const T* a, int64_t a_stride, const T* panel,
                              T* values) {
  using V = typename VectorOf<T, kBytes>::type;
  constexpr int64_t kLanes = kPanel<T, kBytes, 1>, kWidth = kPanel<T, kBytes, kVectors>;
  V tile[kRows][kVectors] = {};
  for (int64_t i = 0; i < rows; ++i, a += a_stride, panel += kWidth) {
    V right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = *reinterpret_cast<const V*>(panel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V left = a[r] - V{};
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) tile[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      *reinterpret_cast<V*>(values + r * kWidth + v * kLanes) = tile[r][v];
    }
  }
}

/// sum [kRows, columns] += a^T · panel over `rows`, for kRows columns of `a`.
template <typename T, int64_t kWidth, int kRows, typename Version>
ISOBAR_INLINE void gradient_tile(int64_t rows, const T* a, int64_t a_stride, const T* panel,
                                 double* sum, int64_t sum_stride, int64_t columns) {
  T values[kRows * kWidth];
  Version::template outer<T, kRows>(rows, a, a_stride, panel, values);
  for (int r = 0; r < kRows; ++r, sum += sum_stride) {
    if (columns >= kWidth) {
      for (int64_t c = 0; c < kWidth; ++c) sum[c] += static_cast<double>(values[r * kWidth + c]);
    } else {
      for (int64_t c = 0; c < columns; ++c) sum[c] += static_cast<double>(values[r * kWidth + c]);
    }
  }
}

/// Blocks of rows one after another: the panel of `b` is copied together, so that every tile reads
/// it from the nearest cache. `Version::outer` is outer_tile() in a function of its own: inlined
/// here, GCC 12 keeps parts of a tile in memory, which took four times as long on Zen 3.
template <typename T, int kBytes, int kVectors, int kRows, typename Version>
ISOBAR_INLINE void sum_by_tiles(const GradientProduct<T>& p) {
  constexpr int64_t kWidth = kPanel<T, kBytes, kVectors>;
  alignas(64) T panel[kSummedRows * kWidth];
  const int64_t columns = std::min(kWidth, p.b_columns);
  for (int64_t first = 0; first < p.rows; first += kSummedRows) {
    const int64_t rows = std::min(kSummedRows, p.rows - first);
    for (int64_t i = 0; i < rows; ++i) {
      const T* const from = p.b + (first + i) * p.b_stride;
      T* const to = panel + i * kWidth;
      if (columns == kWidth) {
        std::memcpy(to, from, kWidth * sizeof(T));
      } else {
        for (int64_t c = 0; c < kWidth; ++c) to[c] = c < columns ? from[c] : T(0);
      }
    }
    const T* const a = p.a + first * p.a_stride;
    const auto tiles = [&]<int kTile>(int64_t row) __attribute__((always_inline)) {
      for (; row + kTile <= p.a_columns; row += kTile) {
        gradient_tile<T, kWidth, kTile, Version>(rows, a + row, p.a_stride, panel,
                                                 p.sum + row * p.sum_stride, p.sum_stride, columns);
      }
      return row;
    };
    int64_t row = tiles.template operator()<kRows>(0);
    if constexpr (kRows > 4) row = tiles.template operator()<4>(row);
    row = tiles.template operator()<2>(row);
    tiles.template operator()<1>(row);
  }
}

}  // namespace
}  // namespace isobar
