// SPDX-License-Identifier: Apache-2.0
// The production path against the algorithm in plain loops, in float64, step by step.
#include <isobar/compress/block_int8.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "compress/world.hpp"

namespace isobar::block_int8_reference_test {
namespace {

using namespace test;

using Values = std::vector<double>;

constexpr int64_t kBlock = 16;

Values values_of(const at::Tensor& tensor) {
  const double* data = tensor.const_data_ptr<double>();
  return {data, data + tensor.numel()};
}

/// What blocks of 8 bits hold of the values.
Values quantised(const Values& values) {
  Values result(values.size());
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    double largest = 0;
    for (size_t i = begin; i < begin + kBlock; ++i) {
      largest = std::max(largest, std::abs(values[i]));
    }
    const double scale = static_cast<float>(largest / 127);
    for (size_t i = begin; i < begin + kBlock; ++i) {
      result[i] = std::nearbyint(values[i] / scale) * scale;
    }
  }
  return result;
}

/// All ranks at once; rank r owns the r-th of equal parts, which hold whole blocks.
struct PlainBlockInt8 {
  PlainBlockInt8(size_t ranks, size_t size) : residuals(ranks, Values(size)) {}

  Values step(const std::vector<Values>& gradients) {
    const size_t ranks = gradients.size(), size = gradients[0].size();
    Values sum(size);
    for (size_t r = 0; r < ranks; ++r) {
      for (size_t i = 0; i < size; ++i) residuals[r][i] += gradients[r][i];
      const Values sent = quantised(residuals[r]);
      for (size_t i = 0; i < size; ++i) {
        residuals[r][i] -= sent[i];
        sum[i] += sent[i];
      }
    }
    Values mean = quantised(sum);
    for (size_t i = 0; i < size; ++i) {
      residuals[i * ranks / size][i] += sum[i] - mean[i];
      mean[i] /= static_cast<double>(ranks);
    }
    return mean;
  }

  std::vector<Values> residuals;  ///< by rank
};

class BlockInt8Reference : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, BlockInt8Reference, testing::Values(2, 3, 4, 5));

TEST_P(BlockInt8Reference, ProductionPathTakesTheSameSteps) {
  const int ranks = GetParam();
  const int64_t size = 2 * ranks * kBlock;
  run_ranks(ranks, [&](Communicator& comm) {
    const auto compressor = make_block_int8({.block = kBlock});
    CompressedModel model({parameter("p", {size})}, comm, compressor);
    PlainBlockInt8 plain(ranks, size);
    for (int64_t step = 0; step < 20; ++step) {
      std::vector<Values> gradients;
      for (int r = 0; r < ranks; ++r) gradients.push_back(values_of(draw({size}, 1, step, r)));
      model.step({draw({size}, 1, step, comm.rank())});
      const auto mean = at::tensor(plain.step(gradients), at::kDouble);
      const auto residual = at::tensor(plain.residuals[comm.rank()], at::kDouble);
      EXPECT_TRUE(at::allclose(model.grad(0), mean, 0, 1e-13)) << step;
      EXPECT_TRUE(at::allclose(remembered(*compressor, "p.residual"), residual, 0, 1e-13));
    }
  });
}

}  // namespace
}  // namespace isobar::block_int8_reference_test
