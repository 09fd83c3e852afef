// SPDX-License-Identifier: Apache-2.0
#include "model/products.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "model/mlp_operations.hpp"

namespace isobar {
namespace {

template <typename T>
at::Tensor panels_of(const at::Tensor& matrix) {
  const int64_t width = product_version<T>().width;
  const int64_t depth = matrix.size(0), columns = matrix.size(1);
  const int64_t panels = (columns + width - 1) / width;
  const at::Tensor result = at::empty({panels, depth, width}, matrix.options());
  const T* const from = matrix.const_data_ptr<T>();
  const int64_t down = matrix.stride(0), across = matrix.stride(1);
  T* to = result.mutable_data_ptr<T>();
  for (int64_t first = 0; first < columns; first += width) {
    const int64_t count = std::min(width, columns - first);
    for (int64_t i = 0; i < depth; ++i, to += width) {
      const T* const row = from + i * down + first * across;
      for (int64_t c = 0; c < count; ++c) to[c] = row[c * across];
      std::fill(to + count, to + width, T(0));
    }
  }
  return result;
}

/// A part of one of the sums: some rows of a panel of it.
template <typename T>
struct Task {
  GradientProduct<T> product;

  /// Of the block of rows from `first` on, which may be past the last.
  void run(int64_t first) const {
    if (first >= product.rows) return;
    auto block = product;
    block.rows = std::min(kSummedRows, product.rows - first);
    block.a += first * product.a_stride;
    block.b += first * product.b_stride;
    product_version<T>().sum(block);
  }
};

/// As many tasks as keep threads busy, if the sums are large enough.
template <typename T>
std::vector<Task<T>> divide(const std::vector<OuterProducts>& all) {
  const int64_t width = product_version<T>().width;
  int64_t panels = 0;
  for (const auto& part : all) panels += (part.b.size(1) + width - 1) / width;
  const int64_t strips =
      std::max<int64_t>(1, 3 * at::get_num_threads() / std::max<int64_t>(1, panels));
  std::vector<Task<T>> tasks;
  for (const OuterProducts& part : all) {
    const at::Tensor &a = part.a, &b = part.b, &sum = part.sum;
    const int64_t m = a.size(1), n = b.size(1);
    const int64_t rows = std::max<int64_t>(16, (m / strips + 15) / 16 * 16);
    for (int64_t column = 0; column < n; column += width) {
      for (int64_t row = 0; row < m; row += rows) {
        tasks.push_back(
            {{a.size(0), std::min(rows, m - row), std::min(width, n - column),
              a.const_data_ptr<T>() + row, a.stride(0), b.const_data_ptr<T>() + column, b.stride(0),
              sum.mutable_data_ptr<double>() + row * sum.stride(0) + column, sum.stride(0)}});
      }
    }
  }
  return tasks;
}

template <typename T>
void add_by_tiles(const std::vector<OuterProducts>& all) {
  const auto tasks = divide<T>(all);
  int64_t rows = 0;
  for (const auto& part : all) rows = std::max(rows, part.a.size(0));
  // All of a thread's panels take a block of rows while that is in the cache.
  at::parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < rows; first += kSummedRows) {
      for (int64_t i = begin; i < end; ++i) tasks[i].run(first);
    }
  });
}

/// 16 bits, whose products a processor may have instructions for.
void add_by_batches(const OuterProducts& part) {
  const auto& [sum, a, b] = part;
  // No fewer rows than columns: blocks' products together are no larger than a and b.
  const int64_t rows = std::max({2 * kSummedRows, a.size(1), b.size(1)});
  const int64_t blocks = a.size(0) / rows, rest = a.size(0) % rows;
  const auto first = [&](const at::Tensor& x) {
    return x.narrow(0, 0, blocks * rows).reshape({blocks, rows, x.size(1)});
  };
  const auto last = [&](const at::Tensor& x) { return x.narrow(0, x.size(0) - rest, rest); };
  if (blocks > 0) sum.add_(first(a).transpose(1, 2).bmm(first(b)).sum(0, false, at::kDouble));
  if (rest > 0) sum.add_(last(a).t().mm(last(b)));
}

}  // namespace

bool has_products(const at::Tensor& rows) {
  return rows.is_cpu() && (rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kDouble);
}

Matrix::Matrix(at::Tensor values) : values_(std::move(values)) {
  if (!has_products(values_)) return;
  panels_ =
      values_.scalar_type() == at::kFloat ? panels_of<float>(values_) : panels_of<double>(values_);
}

void add_products(const std::vector<OuterProducts>& all) {
  const at::Tensor& like = all.front().a;
  if (has_products(like)) {
    like.scalar_type() == at::kFloat ? add_by_tiles<float>(all) : add_by_tiles<double>(all);
    return;
  }
  for (const auto& part : all) like.is_cpu() ? add_by_batches(part) : operations::add_product(part);
}

}  // namespace isobar
