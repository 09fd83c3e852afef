// SPDX-License-Identifier: Apache-2.0
// The loops of low_rank_kernels.cpp, which alone includes this. All of them are inlined into the
// functions there, of which the compiler makes a version for each generation of processors.
#pragma once

#include <cstdint>

#define ISOBAR_INLINE __attribute__((always_inline)) inline
#define ISOBAR_INLINE_LAMBDA __attribute__((always_inline))

namespace isobar {
namespace {

/// Values that are computed at once, and so the order of a sum, on every processor.
template <typename T>
constexpr int64_t kLanes = 64 / sizeof(T);
template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(64)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

/// Rows that go through the loops together: a factor's value loaded serves all of them.
constexpr int64_t kRows = 4;
/// Columns of a thread's share, and of what a row that is not finite loses in it.
constexpr int64_t kColumns = 1024;

template <typename T>
struct Matrix {
  int64_t rows, columns, rank;
  T* gradient;
  T* residual;
  const T* pending_left;
  const T* pending_right;
};

template <typename T>
ISOBAR_INLINE Vector<T> load(const T* from) {
  Vector<T> values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}

template <typename T>
ISOBAR_INLINE void store(T* to, Vector<T> values) {
  __builtin_memcpy(to, &values, sizeof values);
}

/// Where in a row a vector lies; the last one may be shorter, and counts zeros behind its end.
template <typename T, bool whole>
struct At {
  ISOBAR_INLINE Vector<T> load(const T* row) const {
    if constexpr (whole) return isobar::load<T>(row + j);
    Vector<T> values = {};
    __builtin_memcpy(&values, row + j, count * sizeof(T));
    return values;
  }
  ISOBAR_INLINE void store(T* row, Vector<T> values) const {
    __builtin_memcpy(row + j, &values, (whole ? kLanes<T> : count) * sizeof(T));
  }

  int64_t j;
  int64_t count;
};

/// Calls body(At) for the vectors of a row of `width` values.
template <typename T, typename Body>
ISOBAR_INLINE void for_columns(int64_t width, Body body) {
  int64_t j = 0;
  for (; j + kLanes<T> <= width; j += kLanes<T>) body(At<T, true>{j, kLanes<T>});
  if (j < width) body(At<T, false>{j, width - j});
}

/// Calls body<K>(k) for blocks of K columns of the left factor and rows of the right one: the first
/// takes what is too much for blocks of four. The compiler knows K.
template <typename Body>
ISOBAR_INLINE void for_factor_blocks(int64_t rank, Body body) {
  int64_t k = rank % 4;
  if (k == 1) body.template operator()<1>(0);
  if (k == 2) body.template operator()<2>(0);
  if (k == 3) body.template operator()<3>(0);
  for (; k < rank; k += 4) body.template operator()<4>(k);
}

template <typename T>
ISOBAR_INLINE T sum_of_lanes(Vector<T> values) {
  T sum = 0;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) sum += values[lane];
  return sum;
}

template <typename T>
ISOBAR_INLINE bool all_finite(const T* values, int64_t count) {
  T zero = 0;
  for (int64_t i = 0; i < count; ++i) zero += values[i] * 0;
  return zero == 0;
}

/// R rows of values, `stride` apart.
template <typename T>
struct Rows {
  T* first;
  int64_t stride;
  ISOBAR_INLINE T* operator[](int64_t a) const { return first + a * stride; }
};

/// A factor's values [R, K] out of rows of `stride`, in registers.
template <typename T, int64_t R, int64_t K>
struct Scales {
  ISOBAR_INLINE Scales(const T* left, int64_t stride) {
    for (int64_t a = 0; a < R; ++a) {
      for (int64_t k = 0; k < K; ++k) value[a][k] = left[a * stride + k];
    }
  }
  T value[R][K];
};

/// rows -= left · right, of R rows and K rows of the right factor.
template <typename T, int64_t R, int64_t K>
ISOBAR_INLINE void subtract(Rows<T> rows, int64_t width, Rows<const T> left, Rows<const T> right) {
  const Scales<T, R, K> scale(left.first, left.stride);
  for_columns<T>(width, [&](auto at) ISOBAR_INLINE_LAMBDA {
    Vector<T> factor[K];
    for (int64_t k = 0; k < K; ++k) factor[k] = at.load(right[k]);
    for (int64_t a = 0; a < R; ++a) {
      auto value = at.load(rows[a]);
      for (int64_t k = 0; k < K; ++k) value -= scale.value[a][k] * factor[k];
      at.store(rows[a], value);
    }
  });
}

/// rows = left · right, or what they are and that on top.
template <typename T, int64_t R, int64_t K>
ISOBAR_INLINE void multiply(Rows<T> rows, int64_t width, bool add, Rows<const T> left,
                            Rows<const T> right) {
  const Scales<T, R, K> scale(left.first, left.stride);
  for_columns<T>(width, [&](auto at) ISOBAR_INLINE_LAMBDA {
    Vector<T> factor[K];
    for (int64_t k = 0; k < K; ++k) factor[k] = at.load(right[k]);
    for (int64_t a = 0; a < R; ++a) {
      auto value = add ? at.load(rows[a]) : Vector<T>{};
      for (int64_t k = 0; k < K; ++k) value += scale.value[a][k] * factor[k];
      at.store(rows[a], value);
    }
  });
}

/// left = rows · rightᵀ.
template <typename T, int64_t R, int64_t K>
ISOBAR_INLINE void multiply_rows(Rows<T> rows, int64_t width, Rows<T> left, Rows<const T> right) {
  Vector<T> sum[R][K] = {};
  for_columns<T>(width, [&](auto at) ISOBAR_INLINE_LAMBDA {
    Vector<T> factor[K];
    for (int64_t k = 0; k < K; ++k) factor[k] = at.load(right[k]);
    for (int64_t a = 0; a < R; ++a) {
      const auto value = at.load(rows[a]);
      for (int64_t k = 0; k < K; ++k) sum[a][k] += value * factor[k];
    }
  });
  for (int64_t a = 0; a < R; ++a) {
    for (int64_t k = 0; k < K; ++k) left[a][k] = sum_of_lanes<T>(sum[a][k]);
  }
}

/// right += leftᵀ · rows.
template <typename T, int64_t R, int64_t K>
ISOBAR_INLINE void multiply_columns(Rows<T> rows, int64_t width, Rows<const T> left,
                                    Rows<T> right) {
  const Scales<T, R, K> scale(left.first, left.stride);
  for_columns<T>(width, [&](auto at) ISOBAR_INLINE_LAMBDA {
    Vector<T> value[R];
    for (int64_t a = 0; a < R; ++a) value[a] = at.load(rows[a]);
    for (int64_t k = 0; k < K; ++k) {
      auto sum = at.load(right[k]);
      for (int64_t a = 0; a < R; ++a) sum += scale.value[a][k] * value[a];
      at.store(right[k], sum);
    }
  });
}

/// Some columns of a matrix, from one on.
template <typename T>
struct Part {
  ISOBAR_INLINE Rows<T> residual(int64_t i) const {
    return {matrix.residual + i * matrix.columns + begin, matrix.columns};
  }
  ISOBAR_INLINE Rows<T> gradient(int64_t i) const {
    return {matrix.gradient + i * matrix.columns + begin, matrix.columns};
  }
  ISOBAR_INLINE Rows<const T> left(const T* factor, int64_t i, int64_t k) const {
    return {factor + i * matrix.rank + k, matrix.rank};
  }
  /// The whole factor's rows lie `stride` apart.
  ISOBAR_INLINE Rows<const T> right(const T* factor, int64_t stride, int64_t k) const {
    return {factor + k * stride, stride};
  }

  const Matrix<T>& matrix;
  int64_t begin;
  int64_t width;
  const T* pending_right;  ///< of these columns
  int64_t pending_stride;
};

/// Makes the residual of R rows what it stands for.
template <typename T, int64_t R>
ISOBAR_INLINE void settle_rows(const Part<T>& part, int64_t i) {
  const auto& m = part.matrix;
  if (!m.pending_left) return;
  for_factor_blocks(m.rank, [&]<int64_t K>(int64_t k) ISOBAR_INLINE_LAMBDA {
    subtract<T, R, K>(part.residual(i), part.width, part.left(m.pending_left, i, k),
                      part.right(part.pending_right, part.pending_stride, k));
  });
}

/// Makes the residual of R rows W, but of those whose gradient is not finite; returns whether
/// there are none.
template <typename T, int64_t R>
ISOBAR_INLINE bool add_gradient(const Part<T>& part, int64_t i) {
  settle_rows<T, R>(part, i);
  const auto gradient = part.gradient(i);
  const auto residual = part.residual(i);
  bool finite = true;
  for (int64_t a = 0; a < R; ++a) {
    Vector<T> zero = {};
    for_columns<T>(part.width,
                   [&](auto at) ISOBAR_INLINE_LAMBDA { zero += at.load(gradient[a]) * 0; });
    if (sum_of_lanes<T>(zero) != 0) {
      finite = false;
      continue;
    }
    for_columns<T>(part.width, [&](auto at) ISOBAR_INLINE_LAMBDA {
      at.store(residual[a], at.load(gradient[a]) + at.load(residual[a]));
    });
  }
  return finite;
}

/// The right factor's rows, spaced so that they and a matrix of a power of two columns do not
/// compete for the same lines of the cache.
template <typename T>
ISOBAR_INLINE int64_t spaced(int64_t width) {
  return width + kLanes<T>;
}

template <typename T, int64_t R>
ISOBAR_INLINE bool project_row_block(const Part<T>& part, int64_t i, T* left, const T* right,
                                     bool keep_all) {
  const auto& m = part.matrix;
  const int64_t stride = spaced<T>(m.columns);
  bool finite = add_gradient<T, R>(part, i);
  const Rows<T> rows{left + i * m.rank, m.rank};
  for_factor_blocks(m.rank, [&]<int64_t K>(int64_t k) ISOBAR_INLINE_LAMBDA {
    multiply_rows<T, R, K>(part.residual(i), part.width, {rows.first + k, m.rank},
                           part.right(right, stride, k));
  });
  // A product of finite numbers may overflow. To forget the row is better than to keep that.
  for (int64_t a = 0; a < R; ++a) {
    if (all_finite(rows[a], m.rank)) continue;
    finite = false;
    for (int64_t k = 0; k < m.rank; ++k) rows[a][k] = 0;
    for (int64_t j = 0; j < m.columns; ++j) part.residual(i + a)[0][j] = 0;
  }
  if (keep_all) return finite;
  for_factor_blocks(m.rank, [&]<int64_t K>(int64_t k) ISOBAR_INLINE_LAMBDA {
    subtract<T, R, K>(part.residual(i), part.width, part.left(left, i, k),
                      part.right(right, stride, k));
  });
  return finite;
}

template <typename T>
ISOBAR_INLINE void copy_spaced(const T* factor, int64_t rank, int64_t columns, T* to) {
  for (int64_t k = 0; k < rank; ++k) {
    for (int64_t j = 0; j < columns; ++j) to[k * spaced<T>(columns) + j] = factor[k * columns + j];
  }
}

/// `memory`: for two right factors, spaced.
template <typename T>
ISOBAR_INLINE bool project_row_range(const Matrix<T>& m, T* left, const T* right, bool keep_all,
                                     T* memory, int64_t begin, int64_t end) {
  const int64_t stride = spaced<T>(m.columns);
  T* pending = memory + m.rank * stride;
  copy_spaced(right, m.rank, m.columns, memory);
  if (m.pending_left) copy_spaced(m.pending_right, m.rank, m.columns, pending);
  const Part<T> part{m, 0, m.columns, pending, stride};
  bool finite = true;
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows) {
    finite &= project_row_block<T, kRows>(part, i, left, memory, keep_all);
  }
  for (; i < end; ++i) finite &= project_row_block<T, 1>(part, i, left, memory, keep_all);
  return finite;
}

/// Gradients are added where there are any.
template <typename T, int64_t R>
ISOBAR_INLINE bool project_column_block(const Part<T>& part, int64_t i, const T* left, T* right) {
  const auto& m = part.matrix;
  const int64_t stride = spaced<T>(part.width);
  const bool finite = !m.gradient || add_gradient<T, R>(part, i);
  for_factor_blocks(m.rank, [&]<int64_t K>(int64_t k) ISOBAR_INLINE_LAMBDA {
    multiply_columns<T, R, K>(part.residual(i), part.width, part.left(left, i, k),
                              {right + k * stride, stride});
  });
  return finite;
}

/// `memory`: for these columns of the right factor, spaced.
template <typename T>
ISOBAR_INLINE bool project_column_range(const Matrix<T>& m, const T* left, T* right, T* memory,
                                        int64_t begin, int64_t end) {
  const Part<T> part{m, begin, end - begin, m.pending_right ? m.pending_right + begin : nullptr,
                     m.columns};
  const int64_t stride = spaced<T>(part.width);
  for (int64_t n = 0; n < m.rank * stride; ++n) memory[n] = 0;
  bool finite = true;
  int64_t i = 0;
  for (; i + kRows <= m.rows; i += kRows) {
    finite &= project_column_block<T, kRows>(part, i, left, memory);
  }
  for (; i < m.rows; ++i) finite &= project_column_block<T, 1>(part, i, left, memory);
  for (int64_t k = 0; k < m.rank; ++k) {
    for (int64_t j = 0; j < part.width; ++j)
      right[k * m.columns + begin + j] = memory[k * stride + j];
  }
  return finite;
}

template <typename T, int64_t R>
ISOBAR_INLINE void expand_block(const Part<T>& part, int64_t i, const T* left, const T* right) {
  const auto& m = part.matrix;
  for_factor_blocks(m.rank, [&]<int64_t K>(int64_t k) ISOBAR_INLINE_LAMBDA {
    multiply<T, R, K>(part.gradient(i), part.width, k > 0, part.left(left, i, k),
                      part.right(right, m.columns, k));
  });
}

template <typename T>
ISOBAR_INLINE void expand_range(const Matrix<T>& m, const T* left, const T* right, int64_t begin,
                                int64_t end) {
  const Part<T> part{m, 0, m.columns, m.pending_right, m.columns};
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows) expand_block<T, kRows>(part, i, left, right);
  for (; i < end; ++i) expand_block<T, 1>(part, i, left, right);
}

template <typename T>
ISOBAR_INLINE void settle_range(const Matrix<T>& m, int64_t begin, int64_t end) {
  const Part<T> part{m, 0, m.columns, m.pending_right, m.columns};
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows) settle_rows<T, kRows>(part, i);
  for (; i < end; ++i) settle_rows<T, 1>(part, i);
}

}  // namespace
}  // namespace isobar
