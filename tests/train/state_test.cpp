// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/state.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>

#include "core/message_of.hpp"

namespace isobar::state_test {
namespace {

TEST(StateDict, GivesBackWhatWasPut) {
  StateDict state;
  state.put("weight", at::ones({2}));
  state.put_scalar("step", 120);
  state.put_scalar("best", 0.5);
  state.put_scalar("order", "seeded");
  EXPECT_TRUE(at::equal(state.tensor("weight"), at::ones({2})));
  EXPECT_EQ(state.integer("step"), 120);
  EXPECT_EQ(state.real("best"), 0.5);
  EXPECT_EQ(state.text("order"), "seeded");
  EXPECT_TRUE(state.has("weight"));
  EXPECT_TRUE(state.has("best"));
  EXPECT_FALSE(state.has("bias"));
}

TEST(StateDict, KeepsTheOrderOfTensors) {
  StateDict state;
  state.put("z", at::ones({1}));
  state.put("a", at::ones({1}));
  EXPECT_EQ(state.tensors().front().first, "z");
}

TEST(StateDict, NamesAKeyThatIsMissingOrOfAnotherKind) {
  StateDict state;
  state.put("weight", at::ones({1}));
  state.put_scalar("step", 1);
  const auto error_of = [](auto&& action) { return test::message_of<DataError>(action); };
  EXPECT_EQ(error_of([&] { state.tensor("wieght"); }),
            "state has no tensor 'wieght'; did you mean 'weight'?");
  EXPECT_EQ(error_of([&] { state.real("step"); }), "state has no real 'step'; known: none");
}

TEST(StateDict, RefusesAKeyPutTwiceAndNothing) {
  StateDict state;
  state.put("a", at::ones({1}));
  EXPECT_THROW(state.put("a", at::ones({1})), UsageError);
  EXPECT_THROW(state.put_scalar("a", 1), UsageError);
  EXPECT_THROW(state.put("b", at::Tensor()), UsageError);
}

}  // namespace
}  // namespace isobar::state_test
