// SPDX-License-Identifier: Apache-2.0
// On the CPU, loops of our own for float and double: memory is what low-rank compression costs,
// and they pass over it once where matrix products and sums pass over it four times. Tensor
// operations serve other devices.
#include "compress/low_rank_kernels.hpp"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "compress/low_rank_loops.hpp"

namespace isobar {
namespace {

// ISOBAR_CPU_CLONES comes from CMake: the attribute for functions, not for templates, that makes
// those versions and chooses at run time; empty where the compiler knows none.
ISOBAR_CPU_CLONES bool run_rows(const Matrix<float>& m, float* left, const float* right, bool all,
                                float* memory, int64_t begin, int64_t end) {
  return project_row_range(m, left, right, all, memory, begin, end);
}
ISOBAR_CPU_CLONES bool run_rows(const Matrix<double>& m, double* left, const double* right,
                                bool all, double* memory, int64_t begin, int64_t end) {
  return project_row_range(m, left, right, all, memory, begin, end);
}
ISOBAR_CPU_CLONES bool run_columns(const Matrix<float>& m, const float* left, float* right,
                                   float* memory, int64_t begin, int64_t end) {
  return project_column_range(m, left, right, memory, begin, end);
}
ISOBAR_CPU_CLONES bool run_columns(const Matrix<double>& m, const double* left, double* right,
                                   double* memory, int64_t begin, int64_t end) {
  return project_column_range(m, left, right, memory, begin, end);
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
  std::atomic<bool> finite = true;
  for_row_blocks(m, [&](int64_t begin, int64_t end) {
    std::vector<T> memory(2 * m.rank * spaced<T>(m.columns));
    if (!run_rows(matrix, left.data_ptr<T>(), right.data_ptr<T>(), keep == Keep::all, memory.data(),
                  begin, end)) {
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
    std::vector<T> memory(m.rank * spaced<T>(kColumns));
    for (int64_t b = begin; b < end; ++b) {
      const int64_t last = std::min(m.columns, (b + 1) * kColumns);
      if (!run_columns(matrix, left.data_ptr<T>(), right.data_ptr<T>(), memory.data(), b * kColumns,
                       last)) {
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

}  // namespace

at::Tensor project_rows(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right,
                        Keep keep) {
  if (!has_kernel(m)) return by_tensors::project_rows(m, left, right, keep);
  bool finite = true;
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "project_rows",
                             [&] { finite = rows_on_cpu<scalar_t>(m, left, right, keep); });
  return number_to_send(finite);
}

at::Tensor project_columns(const LowRankMatrix& m, const at::Tensor& left,
                           const at::Tensor& right) {
  if (!has_kernel(m)) return by_tensors::project_columns(m, left, right);
  bool finite = true;
  const auto gradient = m.gradient.to(m.residual.scalar_type());
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "project_columns",
                             [&] { finite = columns_on_cpu<scalar_t>(m, gradient, left, right); });
  return number_to_send(finite);
}

at::Tensor project_residual(const LowRankMatrix& m, const at::Tensor& left,
                            const at::Tensor& right) {
  if (!has_kernel(m)) return by_tensors::project_residual(m, left, right);
  bool finite = true;
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "project_residual",
                             [&] { finite = columns_on_cpu<scalar_t>(m, {}, left, right); });
  return number_to_send(finite);
}

void expand(const LowRankMatrix& m, const at::Tensor& left, const at::Tensor& right) {
  if (!has_kernel(m) || m.gradient.scalar_type() != m.residual.scalar_type()) {
    return by_tensors::expand(m, left, right);
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
  if (!has_kernel(m)) return by_tensors::settle(m);
  AT_DISPATCH_FLOATING_TYPES(m.residual.scalar_type(), "settle", [&] {
    const auto matrix = raw<scalar_t>(m, {});
    for_row_blocks(m, [&](int64_t begin, int64_t end) { run_settle(matrix, begin, end); });
  });
}

}  // namespace isobar
