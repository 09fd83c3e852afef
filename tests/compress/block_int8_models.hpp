// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/block_int8.hpp>

#include <memory>
#include <vector>

#include "compress/agreement.hpp"

namespace isobar::test {

inline std::shared_ptr<Compressor> int8(int64_t block = 16, int64_t start_step = 0) {
  return make_block_int8({.block = block, .start_step = start_step});
}

/// Odd sizes, so that slots have padding; one without elements, one smaller than a block.
inline std::vector<NamedParameter> odd_parameters(at::ScalarType type) {
  return {parameter("matrix", {13, 17}, type), parameter("none", {0}, type),
          parameter("three", {3}, type), parameter("vector", {40}, type)};
}

inline std::vector<at::Tensor> odd_gradients(at::ScalarType type, int64_t step, int64_t rank) {
  const std::vector<std::vector<int64_t>> sizes = {{13, 17}, {0}, {3}, {40}};
  std::vector<at::Tensor> gradients;
  for (const auto& size : sizes) gradients.push_back(draw_as(type, size, step, rank));
  return gradients;
}

inline const BucketCaps kSmallBuckets = {.cap_bytes = 500, .first_cap_bytes = 100};

}  // namespace isobar::test
