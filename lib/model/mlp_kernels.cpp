// SPDX-License-Identifier: Apache-2.0
// Called by MlpCore and MessagePass, on the thread of the pass. Each function is one parallel
// region over blocks of rows: a product of the block, where products.hpp has one, and at once the
// loops that follow it. For bfloat16 LibTorch makes the product of all rows first.
//
// ISOBAR_CPU_CLONES comes from CMake: the attribute for functions, not for templates, that makes a
// version for each generation of processors. Loops run over a block of rows; threads share blocks
// out, and what is summed over rows is summed by block first, so that neither depends on them.
#include "model/mlp_kernels.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <type_traits>

#include "model/mlp_loops.hpp"
#include "model/mlp_operations.hpp"
#include "model/row_blocks.hpp"

namespace isobar {
namespace {

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
  ISOBAR_CPU_CLONES void gelu_backward_rows(int64_t rows, int64_t width, const T* from, T* value,  \
                                            T* gradient, Wide<T>* sums) {                          \
    for (int64_t i = 0; i < rows * width; i += width) {                                            \
      gelu_backward_row<T>(width, from + i, value + i, gradient + i, sums);                        \
    }                                                                                              \
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
  ISOBAR_CPU_CLONES void gather_rows(int64_t rows, int64_t width, const T* base, const T* nodes,   \
                                     const int64_t* row, T* to) {                                  \
    for (int64_t r = 0; r < rows; ++r, to += width) {                                              \
      const T* from = nodes + row[r] * width;                                                      \
      if (base) {                                                                                  \
        for (int64_t c = 0; c < width; ++c) {                                                      \
          to[c] = narrow<T>(widen(base[c]) + widen(from[c]));                                      \
        }                                                                                          \
        base += width;                                                                             \
      } else {                                                                                     \
        for (int64_t c = 0; c < width; ++c) to[c] = from[c];                                       \
      }                                                                                            \
    }                                                                                              \
  }
ISOBAR_FOR_TYPES(ISOBAR_LOOP)
#undef ISOBAR_LOOP

const int64_t* indices(const at::Tensor& index) { return index.const_data_ptr<int64_t>(); }

template <typename T>
const T* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}

/// The products of all operands, by block where there are such, or at once before.
class RowProducts {
 public:
  RowProducts(const std::vector<Operand>& operands, at::Tensor& rows) : operands_(operands) {
    if (!operands.empty() && !has_products(rows)) operations::multiply(operands, {}, rows);
    for (const Operand& operand : operands) work_ += operand.matrix.depth();
    work_ *= rows.size(1);
  }

  template <typename T>
  void make(int64_t first, int64_t last, T* rows) const {
    if constexpr (!std::is_same_v<T, c10::BFloat16>) {
      for (const Operand& operand : operands_) {
        operand.matrix.multiply(last - first, data<T>(operand.x) + first * operand.matrix.depth(),
                                rows + first * operand.matrix.columns(),
                                &operand != &operands_.front());
      }
    }
  }
  int64_t work() const { return work_; }

 private:
  const std::vector<Operand>& operands_;
  int64_t work_ = 0;
};

/// Calls body(T{}) for the type of `rows`, one of has_products.
template <typename Body>
void with_float(const at::Tensor& rows, const Body& body) {
  rows.scalar_type() == at::kFloat ? body(float{}) : body(double{});
}

/// The rows [first, last) of `out` as a product begins with them.
template <typename T>
bool begin_rows(const at::Tensor& start, const at::Tensor& out, int64_t first, int64_t last,
                T* to) {
  const int64_t width = out.size(1);
  if (!start.defined()) return false;
  if (start.is_same(out)) return true;
  if (start.dim() == 2) {
    std::copy_n(data<T>(start) + first * width, (last - first) * width, to + first * width);
  } else {
    for (int64_t r = first; r < last; ++r) std::copy_n(data<T>(start), width, to + r * width);
  }
  return true;
}

/// gather_gelu of the rows as they are, or of the operands' products.
void gather_gelu_blocks(const std::vector<Operand>& operands, const Gathered& gathered,
                        at::Tensor& rows, at::Tensor& activated, GeluLeaves leaves) {
  const RowProducts products(operands, rows);
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    const T *near = data<T>(gathered.near) - gathered.first_near * width,
            *far = data<T>(gathered.far);
    T *from = rows.mutable_data_ptr<T>(), *to = activated.mutable_data_ptr<T>();
    for_blocks(rows.size(0), products.work() + width, [&](int64_t first, int64_t last, int64_t) {
      products.make(first, last, from);
      gather_gelu_rows(last - first, width, near, indices(gathered.near_row) + first, far,
                       indices(gathered.far_row) + first, from + first * width, to + first * width,
                       leaves);
    });
  });
}

template <typename T>
void norm_block(const at::Tensor& rows, const NormWeights& norm, const at::Tensor& residual, T* to,
                int64_t first, int64_t last) {
  const int64_t width = rows.size(1);
  const T* const added = data<T>(residual);
  norm_rows(last - first, width, data<T>(rows) + first * width, data<Wide<T>>(norm.weight),
            data<Wide<T>>(norm.shift), added ? added + first * width : nullptr, to + first * width);
}

}  // namespace

bool has_loops(const at::Tensor& rows) {
  return has_products(rows) || (rows.is_cpu() && rows.scalar_type() == at::kBFloat16);
}

c10::ScalarType wide_type(c10::ScalarType compute) {
  return compute == at::kDouble ? at::kDouble : at::kFloat;
}

c10::ScalarType vector_type(const at::Tensor& rows) {
  return has_loops(rows) ? wide_type(rows.scalar_type()) : rows.scalar_type();
}

void linear(const Operand& operand, const at::Tensor& start, at::Tensor& out) {
  if (!has_products(out)) {
    operations::linear(operand, start, out);
    return;
  }
  const Matrix& matrix = operand.matrix;
  with_float(out, [&]<typename T>(T) {
    T* const to = out.mutable_data_ptr<T>();
    for_blocks(out.size(0), matrix.depth() * matrix.columns(),
               [&](int64_t first, int64_t last, int64_t) {
                 const bool add = begin_rows(start, out, first, last, to);
                 matrix.multiply(last - first, data<T>(operand.x) + first * matrix.depth(),
                                 to + first * matrix.columns(), add);
               });
  });
}

void linear_gelu(const std::vector<Operand>& operands, const at::Tensor& bias, at::Tensor& rows,
                 at::Tensor& activated, GeluLeaves leaves) {
  if (!has_loops(rows)) {
    operations::linear_gelu(operands, bias, rows, activated);
    return;
  }
  const RowProducts products(operands, rows);
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    T *from = rows.mutable_data_ptr<T>(), *to = activated.mutable_data_ptr<T>();
    for_blocks(rows.size(0), products.work(), [&](int64_t first, int64_t last, int64_t) {
      products.make(first, last, from);
      bias_gelu_rows(last - first, width, data<Wide<T>>(bias), from + first * width,
                     to + first * width, leaves);
    });
  });
}

void gather_gelu(at::Tensor& rows, const at::Tensor& near, const at::Tensor& near_row,
                 int64_t first_near, const at::Tensor& far, const at::Tensor& far_row,
                 at::Tensor& activated, GeluLeaves leaves) {
  if (!has_loops(rows)) {
    operations::gather_gelu(rows, {near, near_row, first_near, far, far_row}, activated);
    return;
  }
  gather_gelu_blocks({}, {near, near_row, first_near, far, far_row}, rows, activated, leaves);
}

void linear_gather_gelu(const Operand& operand, const Gathered& gathered, at::Tensor& rows,
                        at::Tensor& activated, GeluLeaves leaves) {
  if (has_loops(rows)) {
    gather_gelu_blocks({operand}, gathered, rows, activated, leaves);
    return;
  }
  operations::linear(operand, {}, rows);
  operations::gather_gelu(rows, gathered, activated);
}

void layer_norm(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& shift,
                const at::Tensor& residual, at::Tensor& out) {
  if (!has_loops(rows)) {
    operations::layer_norm(rows, {weight, shift}, residual, out);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1);
    T* to = out.mutable_data_ptr<T>();
    for_blocks(rows.size(0), width, [&](int64_t first, int64_t last, int64_t) {
      norm_block<T>(rows, {weight, shift}, residual, to, first, last);
    });
  });
}

void linear_norm(const Operand& operand, const at::Tensor& bias, const NormWeights& norm,
                 const at::Tensor& residual, at::Tensor& rows, at::Tensor& out) {
  if (!has_products(rows)) {
    operations::linear(operand, bias, rows);
    layer_norm(rows, norm.weight, norm.shift, residual, out);
    return;
  }
  with_float(rows, [&]<typename T>(T) {
    const int64_t width = rows.size(1), depth = operand.matrix.depth();
    T *from = rows.mutable_data_ptr<T>(), *to = out.mutable_data_ptr<T>();
    for_blocks(rows.size(0), depth * width, [&](int64_t first, int64_t last, int64_t) {
      begin_rows(bias, rows, first, last, from);
      operand.matrix.multiply(last - first, data<T>(operand.x) + first * depth,
                              from + first * width, true);
      norm_block<T>(rows, norm, residual, to, first, last);
    });
  });
}

void layer_norm_backward(const at::Tensor& rows, const at::Tensor& weight,
                         const at::Tensor& gradient, at::Tensor& out, NormSums& sums) {
  if (!has_loops(rows)) {
    operations::layer_norm_backward(rows, weight, gradient, out, sums);
    return;
  }
  with_type(rows, [&]<typename T>(T) {
    const int64_t count = rows.size(0), width = rows.size(1);
    const BlockSums<Wide<T>> blocks(count, 3, width);
    T* to = out.mutable_data_ptr<T>();
    for_blocks(count, width, [&](int64_t first, int64_t last, int64_t block) {
      norm_backward_rows(last - first, width, data<T>(rows) + first * width, data<Wide<T>>(weight),
                         data<T>(gradient) + first * width, to + first * width, blocks.of(block, 0),
                         blocks.of(block, 1), blocks.of(block, 2));
    });
    blocks.add_to(sums.weight, 0);
    blocks.add_to(sums.shift, 1);
    blocks.add_to(sums.input, 2);
  });
}

void linear_backward(const Operand& above, const at::Tensor& slope, at::Tensor& below,
                     at::Tensor& sums) {
  if (!has_loops(below)) {
    operations::linear_backward(above, slope, below, sums);
    return;
  }
  const std::vector<Operand> operands{above};
  const RowProducts products(operands, below);
  with_type(below, [&]<typename T>(T) {
    const int64_t rows = below.size(0), width = below.size(1);
    const BlockSums<Wide<T>> blocks(rows, 1, width);
    T* to = below.mutable_data_ptr<T>();
    for_blocks(rows, products.work(), [&](int64_t first, int64_t last, int64_t block) {
      products.make(first, last, to);
      scale_sum_rows(last - first, width, data<T>(slope) + first * width, to + first * width,
                     blocks.of(block, 0));
    });
    blocks.add_to(sums, 0);
  });
}

void linear_backward_gelu(const Operand& above, const at::Tensor& rows, at::Tensor& activated,
                          at::Tensor& below, at::Tensor& sums) {
  if (!has_loops(below)) {
    at::gelu_out(activated, rows);
    operations::linear_backward(above, rows, below, sums);
    return;
  }
  const std::vector<Operand> operands{above};
  const RowProducts products(operands, below);
  with_type(below, [&]<typename T>(T) {
    const int64_t count = below.size(0), width = below.size(1);
    const BlockSums<Wide<T>> blocks(count, 1, width);
    T *value = activated.mutable_data_ptr<T>(), *to = below.mutable_data_ptr<T>();
    for_blocks(count, products.work(), [&](int64_t first, int64_t last, int64_t block) {
      products.make(first, last, to);
      gelu_backward_rows(last - first, width, data<T>(rows) + first * width, value + first * width,
                         to + first * width, blocks.of(block, 0));
    });
    blocks.add_to(sums, 0);
  });
}

void add_gathered(const at::Tensor& rows, const at::Tensor& nodes, const at::Tensor& row,
                  int64_t first_node, at::Tensor& out) {
  if (!has_loops(out)) {
    operations::add_gathered(rows, nodes, row, first_node, out);
    return;
  }
  with_type(out, [&]<typename T>(T) {
    const int64_t width = out.size(1);
    const T *base = data<T>(rows), *from = data<T>(nodes) - first_node * width;
    T* to = out.mutable_data_ptr<T>();
    for_blocks(out.size(0), width, [&](int64_t first, int64_t last, int64_t) {
      gather_rows(last - first, width, base ? base + first * width : nullptr, from,
                  indices(row) + first, to + first * width);
    });
  });
}

}  // namespace isobar
