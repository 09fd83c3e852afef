// SPDX-License-Identifier: Apache-2.0
// On the CPU, loops of our own for float and double: memory is what low-rank compression costs,
// and they pass over it once where matrix products and sums pass over it four times. The ATen
// operations serve other devices.
#include "compress/low_rank_kernels.hpp"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

// ISOBAR_CPU_CLONES comes from CMake: the compiler's attribute that makes a version of a function
// for each generation of processors, and chooses at run time; empty where it knows none.
#define ISOBAR_INLINE __attribute__((always_inline)) inline

namespace isobar::detail {
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

/// The first `count` of a vector's values; zeros follow.
template <typename T>
ISOBAR_INLINE Vector<T> load(const T* from, int64_t count) {
  Vector<T> result = {};
  if (count >= kLanes<T>) {
    __builtin_memcpy(&result, from, sizeof result);
  } else {
    __builtin_memcpy(&result, from, count * sizeof(T));
  }
  return result;
}

template <typename T>
ISOBAR_INLINE void store(T* to, Vector<T> values, int64_t count) {
  if (count >= kLanes<T>) {
    __builtin_memcpy(to, &values, sizeof values);
  } else {
    __builtin_memcpy(to, &values, count * sizeof(T));
  }
}

template <typename T>
ISOBAR_INLINE T sum_of_lanes(Vector<T> values) {
  T sum = 0;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) sum += values[lane];
  return sum;
}

/// value - left · right in columns j and after, for one row.
template <typename T>
ISOBAR_INLINE Vector<T> minus_product(Vector<T> value, const T* left_row, const T* right,
                                      int64_t rank, int64_t columns, int64_t j, int64_t count) {
  for (int64_t k = 0; k < rank; ++k) value -= left_row[k] * load(right + k * columns + j, count);
  return value;
}

/// What the residual stands for.
template <typename T>
ISOBAR_INLINE Vector<T> settled(const Matrix<T>& m, int64_t i, int64_t j, int64_t count) {
  const auto stored = load(m.residual + i * m.columns + j, count);
  if (!m.pending_left) return stored;
  return minus_product(stored, m.pending_left + i * m.rank, m.pending_right, m.rank, m.columns, j,
                       count);
}

/// The products of R rows of w with K rows of the right factor.
template <typename T, int64_t R, int64_t K>
ISOBAR_INLINE void dot_block(const T* w, int64_t stride, const T* right, int64_t columns, T* left,
                             int64_t rank) {
  Vector<T> sum[R][K] = {};
  for (int64_t j = 0; j < columns; j += kLanes<T>) {
    Vector<T> factor[K];
    for (int64_t k = 0; k < K; ++k) factor[k] = load(right + k * columns + j, columns - j);
    for (int64_t a = 0; a < R; ++a) {
      const auto value = load(w + a * stride + j, kLanes<T>);
      for (int64_t k = 0; k < K; ++k) sum[a][k] += value * factor[k];
    }
  }
  for (int64_t a = 0; a < R; ++a) {
    for (int64_t k = 0; k < K; ++k) left[a * rank + k] = sum_of_lanes<T>(sum[a][k]);
  }
}

template <typename T, int64_t R>
ISOBAR_INLINE void dots(const T* w, int64_t stride, const T* right, int64_t columns, T* left,
                        int64_t rank) {
  int64_t k = 0;
  for (; k + 4 <= rank; k += 4) {
    dot_block<T, R, 4>(w, stride, right + k * columns, columns, left + k, rank);
  }
  for (; k < rank; ++k) {
    dot_block<T, R, 1>(w, stride, right + k * columns, columns, left + k, rank);
  }
}

template <typename T>
ISOBAR_INLINE bool all_finite(const T* values, int64_t count) {
  T zero = 0;
  for (int64_t i = 0; i < count; ++i) zero += values[i] * 0;
  return zero == 0;
}

/// `w`: memory for R rows of `stride` values.
template <typename T, int64_t R>
ISOBAR_INLINE bool project_row_block(const Matrix<T>& m, int64_t i, T* left, const T* right,
                                     bool keep_all, T* w, int64_t stride) {
  for (int64_t j = 0; j < m.columns; j += kLanes<T>) {
    const int64_t count = m.columns - j;
    for (int64_t a = 0; a < R; ++a) {
      const auto gradient = load(m.gradient + (i + a) * m.columns + j, count);
      store(w + a * stride + j, gradient + settled(m, i + a, j, count), kLanes<T>);
    }
  }
  T* rows = left + i * m.rank;
  dots<T, R>(w, stride, right, m.columns, rows, m.rank);
  bool finite = true;
  for (int64_t a = 0; a < R; ++a) {
    T* row = rows + a * m.rank;
    T* residual = m.residual + (i + a) * m.columns;
    const bool row_finite = all_finite(row, m.rank);
    finite = finite && row_finite;
    for (int64_t j = 0; j < m.columns; j += kLanes<T>) {
      const int64_t count = m.columns - j;
      auto rest = row_finite ? load(w + a * stride + j, kLanes<T>) : settled(m, i + a, j, count);
      if (row_finite && !keep_all) {
        rest = minus_product(rest, row, right, m.rank, m.columns, j, count);
      }
      store(residual + j, rest, count);
    }
    for (int64_t k = 0; k < m.rank && !row_finite; ++k) row[k] = 0;
  }
  return finite;
}

template <typename T>
ISOBAR_INLINE bool project_row_range(const Matrix<T>& m, T* left, const T* right, bool keep_all,
                                     T* w, int64_t stride, int64_t begin, int64_t end) {
  bool finite = true;
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows) {
    finite &= project_row_block<T, kRows>(m, i, left, right, keep_all, w, stride);
  }
  for (; i < end; ++i) finite &= project_row_block<T, 1>(m, i, left, right, keep_all, w, stride);
  return finite;
}

/// Rows i to i + R of columns begin to end; gradients are added where there are any.
template <typename T, int64_t R>
ISOBAR_INLINE bool project_column_block(const Matrix<T>& m, int64_t i, const T* left, T* right,
                                        int64_t begin, int64_t end) {
  bool finite[R] = {};
  bool all = true;
  for (int64_t a = 0; a < R && m.gradient; ++a) {
    Vector<T> zero = {};
    const T* row = m.gradient + (i + a) * m.columns;
    for (int64_t j = begin; j < end; j += kLanes<T>) zero += load(row + j, end - j) * 0;
    finite[a] = sum_of_lanes<T>(zero) == 0;
    all = all && finite[a];
  }
  for (int64_t j = begin; j < end; j += kLanes<T>) {
    const int64_t count = end - j;
    Vector<T> w[R];
    for (int64_t a = 0; a < R; ++a) {
      w[a] = settled(m, i + a, j, count);
      if (!m.gradient) continue;
      if (finite[a]) w[a] += load(m.gradient + (i + a) * m.columns + j, count);
      store(m.residual + (i + a) * m.columns + j, w[a], count);
    }
    for (int64_t k = 0; k < m.rank; ++k) {
      T* to = right + k * m.columns + j;
      auto sum = load(to, count);
      for (int64_t a = 0; a < R; ++a) sum += left[(i + a) * m.rank + k] * w[a];
      store(to, sum, count);
    }
  }
  return all;
}

template <typename T>
ISOBAR_INLINE bool project_column_range(const Matrix<T>& m, const T* left, T* right, int64_t begin,
                                        int64_t end) {
  for (int64_t k = 0; k < m.rank; ++k) {
    for (int64_t j = begin; j < end; ++j) right[k * m.columns + j] = 0;
  }
  bool finite = true;
  int64_t i = 0;
  for (; i + kRows <= m.rows; i += kRows) {
    finite &= project_column_block<T, kRows>(m, i, left, right, begin, end);
  }
  for (; i < m.rows; ++i) finite &= project_column_block<T, 1>(m, i, left, right, begin, end);
  return finite;
}

template <typename T, int64_t R>
ISOBAR_INLINE void expand_block(const Matrix<T>& m, int64_t i, const T* left, const T* right) {
  for (int64_t j = 0; j < m.columns; j += kLanes<T>) {
    const int64_t count = m.columns - j;
    Vector<T> sum[R] = {};
    for (int64_t k = 0; k < m.rank; ++k) {
      const auto factor = load(right + k * m.columns + j, count);
      for (int64_t a = 0; a < R; ++a) sum[a] += left[(i + a) * m.rank + k] * factor;
    }
    for (int64_t a = 0; a < R; ++a) store(m.gradient + (i + a) * m.columns + j, sum[a], count);
  }
}

template <typename T>
ISOBAR_INLINE void expand_range(const Matrix<T>& m, const T* left, const T* right, int64_t begin,
                                int64_t end) {
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows) expand_block<T, kRows>(m, i, left, right);
  for (; i < end; ++i) expand_block<T, 1>(m, i, left, right);
}

template <typename T>
ISOBAR_INLINE void settle_range(const Matrix<T>& m, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j < m.columns; j += kLanes<T>) {
      store(m.residual + i * m.columns + j, settled(m, i, j, m.columns - j), m.columns - j);
    }
  }
}

// The attribute is for functions, not for templates.
ISOBAR_CPU_CLONES bool run_rows(const Matrix<float>& m, float* left, const float* right, bool all,
                                float* w, int64_t stride, int64_t begin, int64_t end) {
  return project_row_range(m, left, right, all, w, stride, begin, end);
}
ISOBAR_CPU_CLONES bool run_rows(const Matrix<double>& m, double* left, const double* right,
                                bool all, double* w, int64_t stride, int64_t begin, int64_t end) {
  return project_row_range(m, left, right, all, w, stride, begin, end);
}
ISOBAR_CPU_CLONES bool run_columns(const Matrix<float>& m, const float* left, float* right,
                                   int64_t begin, int64_t end) {
  return project_column_range(m, left, right, begin, end);
}
ISOBAR_CPU_CLONES bool run_columns(const Matrix<double>& m, const double* left, double* right,
                                   int64_t begin, int64_t end) {
  return project_column_range(m, left, right, begin, end);
}
ISOBAR_CPU_CLONES void run_expand(const Matrix<float>& m, const float* left, const float* right,
                                  int64_t begin, int64_t end) {
  expand_range(m, left, right, begin, end);
}
ISOBAR_CPU_CLONES void run_expand(const Matrix<double>& m, const double* left, const double* right,
                                  int64_t begin, int64_t end) {
  expand_range(m, left, right, begin, end);
}
ISOBAR_CPU_CLONES void run_settle(const Matrix<float>& m, int64_t begin, int64_t end) {
  settle_range(m, begin, end);
}
ISOBAR_CPU_CLONES void run_settle(const Matrix<double>& m, int64_t begin, int64_t end) {
  settle_range(m, begin, end);
}

bool has_kernel(const LowRankMatrix& m) { return m.residual.is_cpu(); }

template <typename T>
T* pointer(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<T>() : nullptr;
}

template <typename T>
Matrix<T> raw(const LowRankMatrix& m, const at::Tensor& gradient) {
  return {m.rows,
          m.columns,
          m.rank,
          pointer<T>(gradient),
          pointer<T>(m.residual),
          pointer<T>(m.pending_left),
          pointer<T>(m.pending_right)};
}

int64_t row_grain(const LowRankMatrix& m) {
  const int64_t rows = at::internal::GRAIN_SIZE / std::max<int64_t>(1, m.columns) + 1;
  return (rows + kRows - 1) / kRows * kRows;
}

/// Threads get whole blocks of rows, so that a row's bits do not depend on their number.
template <typename Body>
void for_row_blocks(const LowRankMatrix& m, const Body& body) {
  const int64_t blocks = (m.rows + kRows - 1) / kRows;
  at::parallel_for(0, blocks, row_grain(m) / kRows, [&](int64_t begin, int64_t end) {
    body(begin * kRows, std::min(m.rows, end * kRows));
  });
}

template <typename T>
bool rows_on_cpu(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right,
                 Keep keep) {
  const auto gradient = m.gradient.to(m.residual.scalar_type());
  const auto matrix = raw<T>(m, gradient);
  const int64_t stride = (m.columns + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  std::atomic<bool> finite = true;
  for_row_blocks(m, [&](int64_t begin, int64_t end) {
    std::vector<T> w(kRows * stride);
    if (!run_rows(matrix, left.data_ptr<T>(), right.data_ptr<T>(), keep == Keep::all, w.data(),
                  stride, begin, end)) {
      finite = false;
    }
  });
  return finite;
}

template <typename T>
bool columns_on_cpu(const LowRankMatrix& m, const at::Tensor& gradient, const at::Tensor& left,
                    const at::Tensor& right) {
  const auto matrix = raw<T>(m, gradient);
  const int64_t blocks = (m.columns + kColumns - 1) / kColumns;
  std::atomic<bool> finite = true;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t last = std::min(m.columns, (b + 1) * kColumns);
      if (!run_columns(matrix, left.data_ptr<T>(), right.data_ptr<T>(), b * kColumns, last)) {
        finite = false;
      }
    }
  });
  // The rows are added already. To forget all of them is better than to keep an overflow.
  if (!all_finite(right.const_data_ptr<T>(), right.numel())) {
    right.zero_();
    m.residual.zero_();
    finite = false;
  }
  return finite;
}

at::Tensor number_to_send(bool finite) {
  return finite ? at::Tensor() : at::scalar_tensor(std::numeric_limits<double>::quiet_NaN());
}

/// On a device, where asking whether all is finite would wait for it.
at::Tensor add_finite_gradient(const LowRankMatrix& m) {
  settle(m);
  const auto gradient = m.gradient.to(m.residual.scalar_type());
  const auto zeros = gradient.mul(0);  // NaN where it is not finite
  m.residual.add_(at::where(zeros.isnan(), zeros.new_zeros({}), gradient));
  return zeros.sum();
}

}  // namespace

at::Tensor project_rows(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right,
                        Keep keep) {
  if (!has_kernel(m)) {
    auto number = add_finite_gradient(m);
    left.copy_(at::mm(m.residual, right.t()));
    if (keep == Keep::projection) m.residual.addmm_(left, right, 1, -1);
    return number;
  }
  bool finite = true;
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "project_rows",
                             [&] { finite = rows_on_cpu<scalar_t>(m, left, right, keep); });
  return number_to_send(finite);
}

at::Tensor project_columns(const LowRankMatrix& m, const at::Tensor& left,
                           const at::Tensor& right) {
  if (!has_kernel(m)) {
    auto number = add_finite_gradient(m);
    right.copy_(at::mm(left.t(), m.residual));
    return number;
  }
  bool finite = true;
  const auto gradient = m.gradient.to(m.residual.scalar_type());
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "project_columns",
                             [&] { finite = columns_on_cpu<scalar_t>(m, gradient, left, right); });
  return number_to_send(finite);
}

at::Tensor project_residual(const LowRankMatrix& m, const at::Tensor& left,
                            const at::Tensor& right) {
  if (!has_kernel(m)) {
    right.copy_(at::mm(left.t(), m.residual));
    return {};
  }
  bool finite = true;
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "project_residual",
                             [&] { finite = columns_on_cpu<scalar_t>(m, {}, left, right); });
  return number_to_send(finite);
}

void expand(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right) {
  if (!has_kernel(m) || m.gradient.scalar_type() != m.residual.scalar_type()) {
    m.gradient.copy_(at::mm(left, right));
    return;
  }
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "expand", [&] {
    const auto matrix = raw<scalar_t>(m, m.gradient);
    for_row_blocks(m, [&](int64_t begin, int64_t end) {
      run_expand(matrix, left.data_ptr<scalar_t>(), right.data_ptr<scalar_t>(), begin, end);
    });
  });
}

void settle(const LowRankMatrix& m) {
  if (!m.pending_left.defined()) return;
  if (!has_kernel(m)) {
    m.residual.addmm_(m.pending_left, m.pending_right, 1, -1);
    return;
  }
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "settle", [&] {
    const auto matrix = raw<scalar_t>(m, {});
    for_row_blocks(m, [&](int64_t begin, int64_t end) { run_settle(matrix, begin, end); });
  });
}

}  // namespace isobar::detail
