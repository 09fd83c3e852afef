// SPDX-License-Identifier: Apache-2.0
#include "data/block_cache.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

namespace isobar::block_cache_test {
namespace {

/// Asks for blocks of four bytes one after the other and says which of them had to be loaded.
std::vector<int64_t> loads(KeptBlocks& kept, const std::vector<int64_t>& asked) {
  std::vector<int64_t> loaded;
  for (const int64_t first : asked) {
    const auto& block = kept.get(first, [&] {
      loaded.push_back(first);
      return Block{.values = at::full({1, 1, 1}, static_cast<double>(first), at::kFloat)};
    });
    EXPECT_EQ(block.values.item<float>(), static_cast<float>(first));
  }
  return loaded;
}

TEST(KeptBlocks, HoldNoMoreThanTheirBudget) {
  KeptBlocks kept({}, 3 * 4, 10 * 4);
  EXPECT_FALSE(kept.whole());
  EXPECT_EQ(loads(kept, {0, 1, 2, 0, 1, 2}), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(loads(kept, {3, 1, 2, 3}), std::vector<int64_t>{3});
  EXPECT_EQ(loads(kept, {0}), std::vector<int64_t>{0}) << "it made room for the fourth";
}

TEST(KeptBlocks, DropWhatWasAskedForLongestAgo) {
  KeptBlocks kept({}, 2 * 4, 10 * 4);
  EXPECT_EQ(loads(kept, {0, 1, 0, 2}), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(loads(kept, {0, 2}), std::vector<int64_t>{}) << "1 was asked for before 0";
  EXPECT_EQ(loads(kept, {1}), std::vector<int64_t>{1});
}

}  // namespace
}  // namespace isobar::block_cache_test
