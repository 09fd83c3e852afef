// SPDX-License-Identifier: Apache-2.0
#include "comm/levels/level_choice.hpp"

#include <gtest/gtest.h>

namespace isobar::test::level_choice_test {
namespace {

using Way = LevelChoice::Way;

/// Tells `choice` the times of its trials of a size.
void try_out(LevelChoice& choice, int64_t bytes, double flat_s, double node_s) {
  while (choice.is_trial(bytes)) {
    choice.add(bytes, choice.next(bytes) == Way::flat ? flat_s : node_s);
  }
}

TEST(LevelChoice, KeepsTheFasterWay) {
  LevelChoice choice;
  try_out(choice, 1 << 20, 0.02, 0.01);
  try_out(choice, 1 << 24, 0.1, 0.2);
  EXPECT_EQ(choice.next(1 << 20), Way::node);
  EXPECT_EQ(choice.next(1 << 24), Way::flat);
}

TEST(LevelChoice, KnowsASizeByItsPowerOfTwo) {
  LevelChoice choice;
  try_out(choice, 1 << 20, 0.02, 0.01);
  EXPECT_EQ(choice.next((1 << 21) - 1), Way::node);
  EXPECT_TRUE(choice.is_trial(1 << 21));
  EXPECT_TRUE(choice.is_trial((1 << 20) - 1));
}

TEST(LevelChoice, TriesBothWaysInTurn) {
  LevelChoice choice;
  EXPECT_EQ(choice.next(0), Way::flat);
  choice.add(0, 1.0);
  EXPECT_EQ(choice.next(0), Way::node);
}

TEST(LevelChoice, DoesNotMindOneSlowTrial) {
  LevelChoice choice;
  choice.add(8, 1.0);
  choice.add(8, 9.0);  // the first over the levels makes their connections
  try_out(choice, 8, 1.0, 0.5);
  EXPECT_EQ(choice.next(8), Way::node);
}

}  // namespace
}  // namespace isobar::test::level_choice_test
