// SPDX-License-Identifier: Apache-2.0
#include "model/mlp_kernels.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "model/mlp_loops.hpp"

// ISOBAR_CPU_CLONES comes from CMake: the attribute for functions, not for templates, that makes a
// version for each generation of processors. Loops run over a block of rows; threads share blocks
// out, and what is summed over rows is summed by block first, so that neither depends on them.

namespace isobar::detail {
namespace {

constexpr int64_t kBlockRows = 64;

/// Runs body(first, last, block) over blocks of rows.
template <typename Body>
void for_blocks(int64_t rows, int64_t width, const Body& body) {
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  const int64_t grain = std::max<int64_t>(1, 32768 / (kBlockRows * std::max<int64_t>(1, width)));
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      body(block * kBlockRows, std::min(rows, (block + 1) * kBlockRows), block);
    }
  });
}

/// [blocks, sums, width] of zeros, for for_blocks.
template <typename W>
class BlockSums {
 public:
  BlockSums(int64_t rows, int64_t sums, int64_t width)
      : values_(at::zeros({(rows + kBlockRows - 1) / kBlockRows, sums, width},
                          c10::CppTypeToScalarType<W>::value)),
        data_(values_.mutable_data_ptr<W>()) {}

  W* of(int64_t block, int64_t sum) const {
    return data_ + (block * values_.size(1) + sum) * values_.size(2);
  }
  at::Tensor total() const { return values_.sum(0, false, at::kDouble); }

 private:
  at::Tensor values_;
  W* data_;
};

#define ISOBAR_LOOP(T)                                                                             \
  ISOBAR_CPU_CLONES void bias_gelu_rows(int64_t rows, int64_t width, const Wide<T>* bias, T* from, \
                                        T* to, GeluLeaves leaves) {                                \
    for (int64_t i = 0; i < rows * width; i += width) {                                            \
      if (leaves == GeluLeaves::slope) {                                                           \
        add_bias_gelu_row<T, true>(width, bias, from + i, to + i);                                 \
      } else {                                                                                     \
        add_bias_gelu_row<T, false>(width, bias, from + i, to + i);                                \
      }                                                                                            \
    }                                                                                              \
  }                                                                                                \
  ISOBAR_CPU_CLONES void gather_gelu_rows(                                                         \
      int64_t rows, int64_t width, const T* near, const int64_t* near_row, const T* far,           \
      const int64_t* far_row, T* from, T* to, GeluLeaves leaves) {                                 \
    for (int64_t r = 0; r < rows; ++r, from += width, to += width) {                               \
      const T *a = near + near_row[r] * width, *b = far + far_row[r] * width;                      \
      if (leaves == GeluLeaves::slope) {                                                           \
        add_gelu_row<T, true>(width, a, b, from, to);                                              \
      } else {                                                                                     \
        add_gelu_row<T, false>(width, a, b, from, to);                                             \
      }                                                                                            \
    }                                                                                              \
  }                                                                                                \
  ISOBAR_CPU_CLONES void gelu_slope_rows(int64_t count, const T* from, T* value, T* slope) {       \
    gelu_and_slope_row<T>(count, from, value, slope);                                              \
  }                                                                                                \
  ISOBAR_CPU_CLONES void scale_sum_rows(int64_t rows, int64_t width, const T* slope, T* gradient,  \
                                        Wide<T>* sums) {                                           \
    for (int64_t r = 0; r < rows; ++r, slope += width, gradient += width) {                        \
      scale_and_sum_row<T>(width, slope, gradient, sums);                                          \
    }                                                                                              \
  }                                                                                                \
  ISOBAR_CPU_CLONES void norm_rows(int64_t rows, int64_t width, const T* from,                     \
                                   const Wide<T>* weight, const Wide<T>* shift, const T* residual, \
                                   T* to) {                                                        \
    for (int64_t i = 0; i < rows * width; i += width) {                                            \
      if (residual) {                                                                              \
        norm_row<T, true>(width, from + i, weight, shift, residual + i, to + i);                   \
      } else {                                                                                     \
        norm_row<T, false>(width, from + i, weight, shift, nullptr, to + i);                       \
      }                                                                                            \
    }                                                                                              \
  }                                                                                                \
  ISOBAR_CPU_CLONES void norm_backward_rows(                                                       \
      int64_t rows, int64_t width, const T* from, const Wide<T>* weight, const T* gradient, T* to, \
      Wide<T>* weight_sums, Wide<T>* shift_sums, Wide<T>* input_sums) {                            \
    for (int64_t i = 0; i < rows * width; i += width) {                                            \
      norm_backward_row<T>(width, from + i, weight, gradient + i, to + i, weight_sums, shift_sums, \
                           input_sums);                                                            \
    }                                                                                              \
  }                                                                                                \
  ISOBAR_CPU_CLONES void add_row(int64_t width, const T* from, T* to) {                            \
    for (int64_t c = 0; c < width; ++c) to[c] = narrow<T>(widen(to[c]) + widen(from[c]));          \
  }
ISOBAR_FOR_TYPES(ISOBAR_LOOP)
#undef ISOBAR_LOOP

const int64_t* indices(const at::Tensor& index) { return index.const_data_ptr<int64_t>(); }

template <typename T>
const T* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}

at::Tensor slope_by_operations(const at::Tensor& rows) {
  return at::gelu_backward(at::ones_like(rows), rows);
}

void gelu_by_operations(at::Tensor& rows, at::Tensor& activated, GeluLeaves leaves) {
  activated.copy_(at::gelu(rows));
  if (leaves == GeluLeaves::slope) rows.copy_(slope_by_operations(rows));
}

/// What LibTorch's operations compute layer_norm's gradients from.
struct Normalised {
  explicit Normalised(const at::Tensor& rows)
      : wide(rows.to(wide_type(rows.scalar_type()))),
        off(wide - wide.mean(1, true)),
        scale((off.square().mean(1, true) + 1e-5).rsqrt()) {}
  at::Tensor wide, off, scale;
};

}  // namespace

c10::ScalarType wide_type(c10::ScalarType compute) {
  return compute == at::kDouble ? at::kDouble : at::kFloat;
}

void add_bias_gelu(at::Tensor& rows, const at::Tensor& bias, at::Tensor& activated,
                   GeluLeaves leaves) {
  if (!has_loops(rows)) {
    rows.add_(bias.to(rows.scalar_type()));
    gelu_by_operations(rows, activated, leaves);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    T *from = rows.mutable_data_ptr<T>(), *to = activated.mutable_data_ptr<T>();
    for_blocks(rows.size(0), width, [&](int64_t first, int64_t last, int64_t) {
      bias_gelu_rows(last - first, width, data<Wide<T>>(bias), from + first * width,
                     to + first * width, leaves);
    });
  });
}

void gather_gelu(at::Tensor& rows, const at::Tensor& near, const at::Tensor& near_row,
                 int64_t first_near, const at::Tensor& far, const at::Tensor& far_row,
                 at::Tensor& activated, GeluLeaves leaves) {
  if (!has_loops(rows)) {
    rows.add_(near.index_select(0, near_row - first_near) + far.index_select(0, far_row));
    gelu_by_operations(rows, activated, leaves);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    const T* base = data<T>(near) - first_near * width;
    T *from = rows.mutable_data_ptr<T>(), *to = activated.mutable_data_ptr<T>();
    for_blocks(rows.size(0), width, [&](int64_t first, int64_t last, int64_t) {
      gather_gelu_rows(last - first, width, base, indices(near_row) + first, data<T>(far),
                       indices(far_row) + first, from + first * width, to + first * width, leaves);
    });
  });
}

void gelu_and_slope(const at::Tensor& rows, at::Tensor& activated, at::Tensor& slope) {
  if (!has_loops(rows)) {
    activated.copy_(at::gelu(rows));
    slope.copy_(slope_by_operations(rows));
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    T *value = activated.mutable_data_ptr<T>(), *derivative = slope.mutable_data_ptr<T>();
    for_blocks(rows.size(0), width, [&](int64_t first, int64_t last, int64_t) {
      gelu_slope_rows((last - first) * width, data<T>(rows) + first * width, value + first * width,
                      derivative + first * width);
    });
  });
}

void scale_and_sum(const at::Tensor& slope, at::Tensor& gradient, at::Tensor& sums) {
  if (!has_loops(gradient)) {
    gradient.mul_(slope);
    sums.add_(gradient.to(sums.scalar_type()).sum(0));
    return;
  }
  with_type(gradient, [&]<typename T>(T) {
    const int64_t rows = gradient.size(0), width = gradient.size(1);
    const BlockSums<Wide<T>> blocks(rows, 1, width);
    T* to = gradient.mutable_data_ptr<T>();
    for_blocks(rows, width, [&](int64_t first, int64_t last, int64_t block) {
      scale_sum_rows(last - first, width, data<T>(slope) + first * width, to + first * width,
                     blocks.of(block, 0));
    });
    sums.add_(blocks.total()[0]);
  });
}

void layer_norm(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& shift,
                const at::Tensor& residual, at::Tensor& out) {
  if (!has_loops(rows)) {
    const Normalised norm(rows);
    const at::Tensor result = norm.off * norm.scale * weight + shift;
    out.copy_(residual.defined() ? result + residual : result);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    T* to = out.mutable_data_ptr<T>();
    const T* added = data<T>(residual);
    for_blocks(rows.size(0), width, [&](int64_t first, int64_t last, int64_t) {
      norm_rows(last - first, width, data<T>(rows) + first * width, data<Wide<T>>(weight),
                data<Wide<T>>(shift), added ? added + first * width : nullptr, to + first * width);
    });
  });
}

void layer_norm_backward(const at::Tensor& rows, const at::Tensor& weight,
                         const at::Tensor& gradient, at::Tensor& out, NormSums& sums) {
  const int64_t count = rows.size(0), width = rows.size(1);
  if (!has_loops(rows)) {
    const Normalised norm(rows);
    const at::Tensor wide = gradient.to(norm.wide.scalar_type()), scaled = wide * weight;
    const at::Tensor along = (scaled * norm.off).mean(1, true) * norm.scale.square();
    out.copy_(norm.scale * (scaled - scaled.mean(1, true) - norm.off * along));
    sums.weight.add_((wide * norm.off * norm.scale).sum(0));
    sums.shift.add_(wide.sum(0));
    sums.input.add_(out.to(wide.scalar_type()).sum(0));
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const BlockSums<Wide<T>> blocks(count, 3, width);
    T* to = out.mutable_data_ptr<T>();
    for_blocks(count, width, [&](int64_t first, int64_t last, int64_t block) {
      norm_backward_rows(last - first, width, data<T>(rows) + first * width, data<Wide<T>>(weight),
                         data<T>(gradient) + first * width, to + first * width, blocks.of(block, 0),
                         blocks.of(block, 1), blocks.of(block, 2));
    });
    const at::Tensor total = blocks.total();
    sums.weight.add_(total[0]);
    sums.shift.add_(total[1]);
    sums.input.add_(total[2]);
  });
}

void add_gathered(at::Tensor& rows, const at::Tensor& nodes, const at::Tensor& row, int64_t first) {
  if (!has_loops(rows)) {
    rows.add_(nodes.index_select(0, row - first));
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    const T* from = data<T>(nodes) - first * width;
    T* to = rows.mutable_data_ptr<T>();
    const int64_t* at = indices(row);
    for_blocks(rows.size(0), width, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t r = begin; r < end; ++r) add_row(width, from + at[r] * width, to + r * width);
    });
  });
}

}  // namespace isobar::detail
