// SPDX-License-Identifier: Apache-2.0

#include <isobar/comm/half_float.hpp>

#include <gtest/gtest.h>

#include <random>

namespace isobar::test::half_float_test {
namespace {

TEST(HalfFloat, WidensEveryValueAsLibTorchDoes) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const at::Half half(static_cast<uint16_t>(bits), at::Half::from_bits());
    const float expected = half;
    const auto got = widened_value<float>(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got)) << bits;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected)) << bits;
    }
  }
}

TEST(HalfFloat, RoundsAsLibTorchDoes) {
  std::mt19937 random(1);
  for (int i = 0; i < 2'000'000; ++i) {
    const auto any = std::bit_cast<float>(static_cast<uint32_t>(random()));
    // Most floats are too large or too small for a half; these are not.
    const float near = std::ldexp(static_cast<float>(static_cast<int32_t>(random())), -31 - i % 30);
    for (const float value : {any, near, near * 100'000}) {
      ASSERT_EQ(narrowed_value<at::Half>(value).x, at::Half(value).x) << value;
    }
  }
}

TEST(HalfFloat, RoundsTiesToEven) {
  EXPECT_EQ(static_cast<float>(narrowed_value<at::Half>(2049.0F)), 2048.0F);
  EXPECT_EQ(static_cast<float>(narrowed_value<at::Half>(2051.0F)), 2052.0F);
  EXPECT_EQ(static_cast<float>(narrowed_value<at::Half>(65519.0F)), 65504.0F);
  EXPECT_TRUE(std::isinf(static_cast<float>(narrowed_value<at::Half>(65520.0F))));
}

}  // namespace
}  // namespace isobar::test::half_float_test
