// SPDX-License-Identifier: Apache-2.0
// Called by block_int8.cpp; threads share blocks out, each of which is computed by itself.
//
// Products and sums are rounded one by one (see CMakeLists.txt): the bits are those of
// block_int8_tensors.cpp on every processor. Ranks on processors of different generations would
// otherwise decode different gradients from the same bytes, and their replicas drift apart.
#include "compress/block_int8_kernels.hpp"

#include <isobar/comm/half_float.hpp>
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

// ISOBAR_CPU_CLONES comes from CMake, as for low_rank_kernels.cpp.
#define ISOBAR_INLINE __attribute__((always_inline)) inline

namespace isobar {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// The type that gradients of type G are computed in.
template <typename G>
using Wide = std::conditional_t<std::is_same_v<G, double>, double, float>;

/// Added and taken away again, it leaves a small number rounded to nearest, ties to even.
template <typename T>
constexpr T kRounder = std::is_same_v<T, double> ? T(0x1.8p52) : T(0x1.8p23);

/// Magnitudes compare as their bits do, NaN above all.
template <typename T>
ISOBAR_INLINE auto magnitude_bits(T value) {
  using Bits = std::conditional_t<std::is_same_v<T, double>, int64_t, int32_t>;
  return std::bit_cast<Bits>(value) & std::numeric_limits<Bits>::max();
}

/// Of values whose magnitudes are at most the one with these bits. Below the normal numbers the
/// inverse would overflow: such values wait in the residual.
template <typename T, typename Bits>
ISOBAR_INLINE float scale_for(Bits largest) {
  const auto scale = static_cast<float>(std::bit_cast<T>(largest) / 127);
  if (!(scale <= std::numeric_limits<float>::max())) return kNan;
  return scale < std::numeric_limits<float>::min() ? 0 : scale;
}

/// One block of a message.
struct BlockOfMessage {
  int8_t* codes;
  uint8_t* scale;

  float get_scale() const {
    float value;
    std::memcpy(&value, scale, sizeof value);
    return value;
  }
  void set_scale(float value) const { std::memcpy(scale, &value, sizeof value); }
};

ISOBAR_INLINE BlockOfMessage block_of(const BlockLayout& layout, uint8_t* part, int64_t b) {
  return {reinterpret_cast<int8_t*>(part) + b * layout.block, part + layout.part_values() + 4 * b};
}

/// Values of block `b`, counted through all parts, that are the bucket's.
ISOBAR_INLINE int64_t elements_of_block(const BlockLayout& layout, int64_t b) {
  return std::clamp<int64_t>(layout.values - b * layout.block, 0, layout.block);
}

/// Quantises value(i) for i below `count`, and hands what that leaves out to keep(i, rest).
template <typename T, typename Value, typename Keep>
ISOBAR_INLINE void quantise_block(const BlockOfMessage& to, int64_t count, int64_t block,
                                  const Value& value, const Keep& keep) {
  auto largest = magnitude_bits(T(0));
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, magnitude_bits<T>(value(i)));
  const float scale = scale_for<T>(largest);
  to.set_scale(scale);
  if (!(scale > 0)) {
    std::fill_n(to.codes, block, int8_t{0});
    if (scale == 0) {
      for (int64_t i = 0; i < count; ++i) keep(i, value(i));
    }
    return;
  }
  const T step = scale, inverse = 1 / step, rounder = kRounder<T>;
  for (int64_t i = 0; i < count; ++i) {
    const T wanted = value(i);
    const T code = (wanted * inverse + rounder) - rounder;
    to.codes[i] = static_cast<int8_t>(static_cast<int32_t>(code));
    keep(i, wanted - code * step);
  }
  std::fill(to.codes + count, to.codes + block, int8_t{0});
}

template <typename G>
ISOBAR_INLINE void quantise_range(const BlockLayout& layout, const G* values, Wide<G>* residual,
                                  uint8_t* message, int64_t begin, int64_t end) {
  using T = Wide<G>;
  for (int64_t b = begin; b < end; ++b) {
    const int64_t first = b * layout.block;
    const auto to =
        block_of(layout, message + b / layout.blocks * layout.part_bytes(), b % layout.blocks);
    quantise_block<T>(
        to, elements_of_block(layout, b), layout.block,
        [=](int64_t i) { return widened_value<T>(values[first + i]) + residual[first + i]; },
        [=](int64_t i, T rest) { residual[first + i] = rest; });
  }
}

template <typename T>
ISOBAR_INLINE void quantise_sum_range(const BlockLayout& layout, int64_t rank, uint8_t* received,
                                      T* sum, T* residual, uint8_t* own, int64_t begin,
                                      int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const int64_t first = (rank * layout.blocks + b) * layout.block;
    const int64_t count = elements_of_block(layout, rank * layout.blocks + b);
    T* total = sum + b * layout.block;
    std::fill_n(total, layout.block, T(0));
    for (int64_t r = 0; r < layout.parts; ++r) {
      const auto from = block_of(layout, received + r * layout.part_bytes(), b);
      const T scale = from.get_scale();
      for (int64_t i = 0; i < count; ++i) total[i] += static_cast<T>(from.codes[i]) * scale;
    }
    quantise_block<T>(
        block_of(layout, own, b), count, layout.block, [=](int64_t i) { return total[i]; },
        [=](int64_t i, T rest) { residual[first + i] += rest; });
  }
}

template <typename G>
ISOBAR_INLINE void dequantise_range(const BlockLayout& layout, uint8_t* message, Wide<G> divisor,
                                    G* values, int64_t begin, int64_t end) {
  using T = Wide<G>;
  for (int64_t b = begin; b < end; ++b) {
    const auto from =
        block_of(layout, message + b / layout.blocks * layout.part_bytes(), b % layout.blocks);
    const T step = static_cast<T>(from.get_scale()) / divisor;
    G* to = values + b * layout.block;
    const int64_t count = elements_of_block(layout, b);
    for (int64_t i = 0; i < count; ++i) {
      to[i] = narrowed_value<G, T>(static_cast<T>(from.codes[i]) * step);
    }
  }
}

// The attribute is for functions, not for templates.
#define ISOBAR_BLOCK_KERNELS(G)                                                                   \
  ISOBAR_CPU_CLONES void run_quantise(const BlockLayout& layout, const G* values,                 \
                                      Wide<G>* residual, uint8_t* message, int64_t begin,         \
                                      int64_t end) {                                              \
    quantise_range<G>(layout, values, residual, message, begin, end);                             \
  }                                                                                               \
  ISOBAR_CPU_CLONES void run_dequantise(const BlockLayout& layout, uint8_t* message,              \
                                        Wide<G> divisor, G* values, int64_t begin, int64_t end) { \
    dequantise_range<G>(layout, message, divisor, values, begin, end);                            \
  }
ISOBAR_BLOCK_KERNELS(float)
ISOBAR_BLOCK_KERNELS(double)
ISOBAR_BLOCK_KERNELS(at::Half)
ISOBAR_BLOCK_KERNELS(at::BFloat16)
#undef ISOBAR_BLOCK_KERNELS

ISOBAR_CPU_CLONES void run_quantise_sum(const BlockLayout& layout, int64_t rank, uint8_t* received,
                                        float* sum, float* residual, uint8_t* own, int64_t begin,
                                        int64_t end) {
  quantise_sum_range(layout, rank, received, sum, residual, own, begin, end);
}
ISOBAR_CPU_CLONES void run_quantise_sum(const BlockLayout& layout, int64_t rank, uint8_t* received,
                                        double* sum, double* residual, uint8_t* own, int64_t begin,
                                        int64_t end) {
  quantise_sum_range(layout, rank, received, sum, residual, own, begin, end);
}

template <typename Body>
void for_blocks(int64_t blocks, int64_t block, const Body& body) {
  at::parallel_for(0, blocks, at::internal::GRAIN_SIZE / block + 1, body);
}

uint8_t* message_bytes(const at::Tensor& message) { return message.data_ptr<uint8_t>(); }

}  // namespace

// Equal blocks, so that even small buckets fill their parts.
BlockLayout block_layout(int64_t values, int64_t parts, int64_t block) {
  const int64_t part = (values + parts - 1) / parts;
  BlockLayout layout{values, parts, (part + block - 1) / block, 0};
  if (layout.blocks > 0) layout.block = ((part + layout.blocks - 1) / layout.blocks + 3) / 4 * 4;
  return layout;
}

void quantise(const BlockLayout& layout, const at::Tensor& values, const at::Tensor& residual,
              const at::Tensor& message) {
  if (!values.is_cpu()) return by_tensors::quantise(layout, values, residual, message);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, values.scalar_type(), "quantise", [&] {
    const auto* from = values.const_data_ptr<scalar_t>();
    auto* rest = residual.data_ptr<Wide<scalar_t>>();
    for_blocks(layout.parts * layout.blocks, layout.block, [&](int64_t begin, int64_t end) {
      run_quantise(layout, from, rest, message_bytes(message), begin, end);
    });
  });
}

void quantise_sum(const BlockLayout& layout, int64_t rank, const at::Tensor& received,
                  const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& own) {
  if (!sum.is_cpu()) {
    return by_tensors::quantise_sum(layout, rank, received, sum, residual, own);
  }
  AT_DISPATCH_FLOATING_TYPES(sum.scalar_type(), "quantise_sum", [&] {
    auto* total = sum.data_ptr<scalar_t>();
    auto* rest = residual.data_ptr<scalar_t>();
    for_blocks(layout.blocks, layout.block * layout.parts, [&](int64_t begin, int64_t end) {
      run_quantise_sum(layout, rank, message_bytes(received), total, rest, message_bytes(own),
                       begin, end);
    });
  });
}

void dequantise(const BlockLayout& layout, const at::Tensor& message, double divisor,
                const at::Tensor& values) {
  if (!values.is_cpu()) return by_tensors::dequantise(layout, message, divisor, values);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, values.scalar_type(), "dequantise", [&] {
        auto* to = values.data_ptr<scalar_t>();
        const auto by = static_cast<Wide<scalar_t>>(divisor);
        for_blocks(layout.parts * layout.blocks, layout.block, [&](int64_t begin, int64_t end) {
          run_dequantise(layout, message_bytes(message), by, to, begin, end);
        });
      });
}

}  // namespace isobar
