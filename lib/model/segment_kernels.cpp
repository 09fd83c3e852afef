// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "model/mlp_kernels.hpp"
#include "model/mlp_loops.hpp"
#include "model/mlp_operations.hpp"

// On one thread, 64 channels, forward and backward of the sum over 5,000 / 100,000 edges took 0.12
// / 4.0 ms by such loops, against 0.19 / 11 ms of index_add and 0.52 / 18 ms of segment_reduce.

namespace isobar {
namespace {

/// Adds up `count` rows from `rows`, or those that `order` names, into `sum`.
#define ISOBAR_LOOP(T)                                                                 \
  ISOBAR_CPU_CLONES void add_rows(int64_t count, int64_t width, const T* rows,         \
                                  const int64_t* order, int64_t first, Wide<T>* sum) { \
    for (int64_t k = 0; k < count; ++k) {                                              \
      const T* row = rows + ((order ? order[k] : k) - first) * width;                  \
      for (int64_t c = 0; c < width; ++c) sum[c] += widen(row[c]);                     \
    }                                                                                  \
  }                                                                                    \
  ISOBAR_CPU_CLONES void narrow_row(int64_t width, const Wide<T>* from, T* to) {       \
    for (int64_t c = 0; c < width; ++c) to[c] = narrow<T>(from[c]);                    \
  }
ISOBAR_FOR_TYPES(ISOBAR_LOOP)
#undef ISOBAR_LOOP

int64_t grain_of(int64_t width) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, width)); }

}  // namespace

void sum_segments(const at::Tensor& rows, const at::Tensor& offsets, at::Tensor& sums) {
  if (!has_loops(rows)) {
    operations::sum_segments(rows, offsets, sums);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    const int64_t* starts = offsets.const_data_ptr<int64_t>();
    const T* from = rows.const_data_ptr<T>();
    T* to = sums.mutable_data_ptr<T>();
    at::parallel_for(0, sums.size(0), grain_of(width), [&](int64_t begin, int64_t end) {
      std::vector<Wide<T>> sum(width);
      for (int64_t i = begin; i < end; ++i) {
        std::fill(sum.begin(), sum.end(), Wide<T>(0));
        add_rows(starts[i + 1] - starts[i], width, from + (starts[i] - starts[0]) * width, nullptr,
                 0, sum.data());
        narrow_row(width, sum.data(), to + i * width);
      }
    });
  });
}

void add_segments(const at::Tensor& rows, const at::Tensor& order, int64_t first,
                  const at::Tensor& offsets, const at::Tensor& nodes, at::Tensor& sums) {
  if (!has_loops(rows)) {
    operations::add_segments(rows, order, first, offsets, nodes, sums);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    const int64_t* starts = offsets.const_data_ptr<int64_t>();
    const int64_t* row = order.const_data_ptr<int64_t>();
    const int64_t* node = nodes.const_data_ptr<int64_t>();
    const T* from = rows.const_data_ptr<T>();
    Wide<T>* to = sums.mutable_data_ptr<Wide<T>>();
    at::parallel_for(0, nodes.size(0), grain_of(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        add_rows(starts[i + 1] - starts[i], width, from, row + (starts[i] - starts[0]), first,
                 to + node[i] * width);
      }
    });
  });
}

}  // namespace isobar
