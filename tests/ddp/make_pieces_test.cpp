// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/compressor.hpp>

#include <gtest/gtest.h>

#include "ddp/exact.hpp"

namespace isobar::test::make_pieces_test {
namespace {

TEST(MakePieces, LaysGradientsOutAsAReducerDoes) {
  const std::vector<NamedParameter> parameters{{"a", leaf({3, 5})}, {"b", leaf({2})}};
  const auto plan = plan_buckets(parameters, {1, 0}, {.cap_bytes = 1 << 20});
  const auto pieces = make_pieces(parameters, plan, 4);
  ASSERT_EQ(pieces.size(), 1U);
  const auto& [values, slots, divisor] = pieces.front();
  EXPECT_EQ(divisor, 4);
  ASSERT_EQ(slots.size(), 2U);
  EXPECT_EQ(slots[0].parameter, 1);
  EXPECT_EQ(slots[1].offset, 16) << "64 bytes on";
  EXPECT_EQ(slots[1].columns, 5);
  EXPECT_EQ(values.abs().sum().item<float>(), 0);
}

TEST(MakePieces, MakesGradientsAliasesOfThem) {
  const std::vector<NamedParameter> parameters{{"a", leaf({3})}};
  const auto plan = plan_buckets(parameters, {0}, {});
  const auto pieces = make_pieces(parameters, plan, 1);
  backward(parameters[0].tensor, 0);
  EXPECT_TRUE(pieces[0].values.narrow(0, 0, 3).equal(exact_gradient(parameters[0].tensor, 0)));
}

}  // namespace
}  // namespace isobar::test::make_pieces_test
