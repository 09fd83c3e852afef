// SPDX-License-Identifier: Apache-2.0
#include "compress/block_int8_kernels.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "compress/world.hpp"

namespace isobar::block_int8_kernels_test {
namespace {

using test::draw;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

at::ScalarType residual_of(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

/// Gradients of very different sizes, zeros, and in one place none that is finite.
at::Tensor rough_values(int64_t size, int64_t step, at::ScalarType type) {
  auto values = draw({size}, 1, step) * at::exp(4 * draw({size}, 2, step));
  values.narrow(0, size / 2, size / 4).zero_();
  if (size > 0) values[size / 3] = kNan;
  return values.to(type);
}

at::Tensor message_for(int64_t bytes) { return at::full({bytes}, 77, at::kByte); }

/// A bucket's way to `rank` and back, with one set of functions or the other.
template <typename Quantise, typename QuantiseSum, typename Dequantise>
std::vector<at::Tensor> round_trip(const BlockLayout& layout, int64_t rank, at::ScalarType type,
                                   const Quantise& quantise, const QuantiseSum& quantise_sum,
                                   const Dequantise& dequantise) {
  const auto wide = at::TensorOptions().dtype(residual_of(type));
  const auto residual = draw({layout.values}, 3, 0).to(wide);
  const auto message = message_for(layout.message_bytes()), received = at::empty_like(message);
  for (int64_t r = 0; r < layout.parts; ++r) {
    quantise(layout, rough_values(layout.values, r, type), residual, message);
    received.narrow(0, r * layout.part_bytes(), layout.part_bytes())
        .copy_(message.narrow(0, rank * layout.part_bytes(), layout.part_bytes()));
  }
  const auto own = message_for(layout.part_bytes());
  quantise_sum(layout, rank, received, at::empty({layout.part_values()}, wide), residual, own);
  const auto values = at::empty({layout.values}, type);
  dequantise(layout, own.repeat({layout.parts}), 3, values);
  return {message, own, residual, values};
}

TEST(BlockLayout, FillsEqualPartsWithEqualBlocks) {
  for (const int64_t values : {1, 3, 16, 255, 256, 257, 1000, 100'003}) {
    for (const int64_t parts : {1, 2, 3, 5, 64}) {
      const auto layout = block_layout(values, parts, 256);
      EXPECT_GE(layout.parts * layout.part_values(), values);
      EXPECT_LE(layout.block, 256);
      EXPECT_EQ(layout.block % 4, 0);
      // Rounded up to a value in each part, and to four in each block.
      EXPECT_LE(layout.part_values(), values / parts + 1 + 4 * layout.blocks);
    }
  }
  EXPECT_EQ(block_layout(0, 4, 256).message_bytes(), 0);
  EXPECT_EQ(block_layout(1 << 20, 4, 256).message_bytes(), (1 << 20) / 256 * 260);
}

TEST(BlockInt8Kernels, AgreeWithTensorOperationsToTheBit) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    for (const auto& layout : {block_layout(1000, 3, 64), block_layout(5, 4, 256),
                               block_layout(20'000, 2, 256), block_layout(33, 5, 4)}) {
      for (const int64_t rank : {int64_t{0}, layout.parts - 1}) {
        const auto loops = round_trip(layout, rank, type, quantise, quantise_sum, dequantise);
        const auto tensors = round_trip(layout, rank, type, by_tensors::quantise,
                                        by_tensors::quantise_sum, by_tensors::dequantise);
        for (size_t i = 0; i < loops.size(); ++i) {
          const auto same =
              loops[i].eq(tensors[i]).logical_or(loops[i].isnan().logical_and(tensors[i].isnan()));
          EXPECT_TRUE(same.all().item<bool>()) << layout.values << " " << type << " " << i;
        }
      }
    }
  }
}

TEST(BlockInt8Kernels, SendWhatTheResidualLoses) {
  const auto layout = block_layout(1000, 3, 64);
  const auto values = draw({1000}, 1, 0), residual = draw({1000}, 2, 0);
  const auto wanted = values + residual, message = message_for(layout.message_bytes());
  quantise(layout, values, residual, message);
  const auto sent = at::empty({1000}, at::kDouble);
  dequantise(layout, message, 1, sent);
  EXPECT_TRUE(at::allclose(sent + residual, wanted, 0, 1e-15));
  for (int64_t begin = 0; begin < 1000; begin += layout.block) {
    const int64_t count = std::min(layout.block, 1000 - begin);
    const double largest = wanted.narrow(0, begin, count).abs().max().item<double>();
    const double rest = residual.narrow(0, begin, count).abs().max().item<double>();
    EXPECT_LE(rest, largest / 254 * (1 + 1e-6));
    EXPECT_GT(rest, 0);
  }
}

TEST(BlockInt8Kernels, KeepWhatIsTooSmallForAScale) {
  const auto layout = block_layout(8, 2, 4);
  const auto residual = at::zeros({8}, at::kFloat), message = message_for(layout.message_bytes());
  const auto tiny = at::full({8}, 1e-37, at::kFloat);
  quantise(layout, tiny, residual, message);
  EXPECT_TRUE(at::equal(residual, tiny));
  const auto sent = at::empty({8}, at::kFloat);
  dequantise(layout, message, 1, sent);
  EXPECT_EQ(sent.count_nonzero().item<int64_t>(), 0);
}

TEST(BlockInt8Kernels, SendABlockThatIsNotFiniteAsNan) {
  const auto layout = block_layout(8, 2, 4);
  for (const double odd : {kNan, std::numeric_limits<double>::infinity(), -1e300}) {
    const auto values = at::ones({8}, at::kDouble), residual = draw({8}, 1, 0);
    values[6] = odd;
    const auto before = residual.clone(), message = message_for(layout.message_bytes());
    quantise(layout, values, residual, message);
    const auto sent = at::empty({8}, at::kDouble);
    dequantise(layout, message, 1, sent);
    EXPECT_TRUE(at::equal(sent.isnan(), at::arange(8).ge(4)));
    EXPECT_TRUE(at::equal(residual.narrow(0, 4, 4), before.narrow(0, 4, 4)));
  }
}

}  // namespace
}  // namespace isobar::block_int8_kernels_test
