// SPDX-License-Identifier: Apache-2.0
#include "comm/control/row_balance.hpp"

#include <gtest/gtest.h>

#include <random>

namespace isobar::control::control_row_balance_test {
namespace {

using Rows = std::vector<int64_t>;

/// How many rows each rank sends to each, by (from, to).
using Matrix = std::vector<Rows>;

Matrix random_matrix(int size, std::mt19937_64& random) {
  Matrix matrix(size, Rows(size));
  for (auto& rows : matrix) {
    for (auto& count : rows) count = random() % 3 == 0 ? 0 : static_cast<int64_t>(random() % 5000);
  }
  return matrix;
}

/// What the ranks' balances add up to.
uint64_t sum_of(const Matrix& sent, const Matrix& expected, int64_t sequence) {
  uint64_t sum = 0;
  for (size_t rank = 0; rank < sent.size(); ++rank) {
    Rows of_rank;
    for (const auto& rows : expected) of_rank.push_back(rows[rank]);
    sum += row_balance(sequence, static_cast<int>(rank), sent[rank], of_rank);
  }
  return sum;
}

TEST(RowBalance, AddsUpToNothingWhereAllPairsAgree) {
  std::mt19937_64 random(1);
  for (const int size : {1, 2, 3, 17, 64}) {
    const auto matrix = random_matrix(size, random);
    EXPECT_EQ(sum_of(matrix, matrix, 41), 0U) << size;
  }
}

TEST(RowBalance, NamesTheOnePairThatDoesNotAgree) {
  std::mt19937_64 random(2);
  for (const int size : {2, 3, 17, 64}) {
    for (const int64_t difference : {1, -1, 1000, -1'000'000}) {
      const auto sent = random_matrix(size, random);
      auto expected = sent;
      const int from = static_cast<int>(random() % size);
      const int to = static_cast<int>(random() % size);
      expected[from][to] -= difference;
      const auto found = find_row_difference(sum_of(sent, expected, 7), 7, size);
      ASSERT_TRUE(found);
      EXPECT_EQ(std::tuple(found->from, found->to, found->rows), std::tuple(from, to, difference));
    }
  }
}

TEST(RowBalance, NamesThePairAmong2048Ranks) {
  constexpr int kSize = 2048;
  Rows none(kSize, 0);
  auto sent = none;
  auto expected = none;
  sent[1999] = 12;
  expected[1024] = 5;
  const auto sum = row_balance(3, 1024, sent, none) + row_balance(3, 1999, none, expected);
  const auto found = find_row_difference(sum, 3, kSize);
  ASSERT_TRUE(found);
  EXPECT_EQ(std::tuple(found->from, found->to, found->rows), std::tuple(1024, 1999, 7));
}

/// Rows that one rank sends to the wrong one, and two that are exchanged, are as many in all.
TEST(RowBalance, IsNotNothingWhereAsManyRowsGoAstray) {
  const Matrix sent = {{0, 3, 5}, {4, 0, 4}, {1, 2, 0}};
  for (const auto& expected :
       {Matrix{{0, 5, 3}, {4, 0, 4}, {1, 2, 0}}, Matrix{{0, 3, 5}, {3, 0, 4}, {2, 2, 0}},
        Matrix{{0, 4, 5}, {3, 0, 4}, {1, 2, 0}}}) {
    const auto sum = sum_of(sent, expected, 0);
    EXPECT_NE(sum, 0U);
    EXPECT_FALSE(find_row_difference(sum, 0, 3));
  }
}

/// Otherwise a call's counts could make up for those of another.
TEST(RowBalance, IsAnotherInEachCall) {
  EXPECT_NE(row_balance(0, 0, {0, 1}, {0, 0}), row_balance(1, 0, {0, 1}, {0, 0}));
}

}  // namespace
}  // namespace isobar::control::control_row_balance_test
