// SPDX-License-Identifier: Apache-2.0
// The blocks of rows of mlp_kernels.cpp, which alone includes this, and sums over them.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace isobar {
namespace {

/// 128 channels of so many rows, before and after a product, are a fraction of a second-level
/// cache.
constexpr int64_t kBlockRows = 64;

int64_t blocks_of(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

/// Runs body(first, last, block) over blocks of rows, each of `work` operations or so a row.
template <typename Body>
void for_blocks(int64_t rows, int64_t work, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, 32768 / (kBlockRows * std::max<int64_t>(1, work)));
  at::parallel_for(0, blocks_of(rows), grain, [&](int64_t begin, int64_t end) {
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
      : values_(at::zeros({blocks_of(rows), sums, width}, c10::CppTypeToScalarType<W>::value)),
        data_(values_.mutable_data_ptr<W>()) {}

  W* of(int64_t block, int64_t sum) const {
    return data_ + (block * values_.size(1) + sum) * values_.size(2);
  }
  /// total [width] += this sum's, of all blocks.
  void add_to(const at::Tensor& total, int64_t sum) const {
    double* const to = total.mutable_data_ptr<double>();
    for (int64_t block = 0; block < values_.size(0); ++block) {
      const W* const from = of(block, sum);
      for (int64_t c = 0; c < values_.size(2); ++c) to[c] += static_cast<double>(from[c]);
    }
  }

 private:
  at::Tensor values_;
  W* data_;
};

}  // namespace
}  // namespace isobar
