// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/rank_list.hpp"

#include <gtest/gtest.h>

namespace isobar::test::rank_list_test {
namespace {

TEST(RankList, NamesRanksInOneText) {
  EXPECT_EQ(rank_list({}), "");
  EXPECT_EQ(rank_list({2}), "rank 2");
  EXPECT_EQ(rank_list({0, 3}), "ranks 0, 3");
}

TEST(RankList, CountsThoseBeyondTheMostNamed) {
  EXPECT_EQ(rank_list({0, 1, 2}, 3), "ranks 0, 1, 2");
  EXPECT_EQ(rank_list({0, 1, 2, 3}, 2), "ranks 0, 1 and 2 more");
}

}  // namespace
}  // namespace isobar::test::rank_list_test
