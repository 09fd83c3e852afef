// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/collective.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

namespace isobar::bench::collective_test {
namespace {

using Sizes = std::vector<int64_t>;
constexpr int64_t kKiB = 1024;

TEST(Collective, HasTheBusBandwidthFactorsOfNcclTests) {
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::allreduce, 4), 1.5);
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::reduce_scatter, 4), 0.75);
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::all_gather, 4), 0.75);
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::all_to_all, 4), 0.75);
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::broadcast, 4), 1);
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::send_receive, 4), 1);
  EXPECT_DOUBLE_EQ(busbw_factor(Collective::barrier, 4), 0);
}

TEST(Collective, SendsNothingOnOneRank) {
  EXPECT_EQ(busbw_factor(Collective::allreduce, 1), 0);
  EXPECT_EQ(busbw_factor(Collective::broadcast, 1), 0);
}

TEST(Collective, CountsTheLargerBuffer) {
  const auto counts = [](Collective op) { return counts_of(op, 64 * kKiB, 4, 4); };
  EXPECT_EQ(counts(Collective::allreduce).input, 16 * kKiB);
  EXPECT_EQ(counts(Collective::reduce_scatter).input, 16 * kKiB);
  EXPECT_EQ(counts(Collective::reduce_scatter).output, 4 * kKiB);
  EXPECT_EQ(counts(Collective::all_gather).input, 4 * kKiB);
  EXPECT_EQ(counts(Collective::all_gather).output, 16 * kKiB);
  EXPECT_EQ(counts(Collective::all_to_all).input, 16 * kKiB);
}

TEST(Collective, RoundsDownToEqualPartsOfAnElementAtLeast) {
  EXPECT_EQ(counts_of(Collective::all_to_all, 100, 4, 3).input, 24);
  EXPECT_EQ(counts_of(Collective::reduce_scatter, 4, 4, 3).output, 1);
  EXPECT_EQ(counts_of(Collective::allreduce, 1, 4, 3).input, 1);
}

TEST(Collective, ReadsListsAndRangesOfSizes) {
  EXPECT_EQ(parse_sizes("1MiB,4MiB"), (Sizes{1024 * kKiB, 4096 * kKiB}));
  EXPECT_EQ(parse_sizes("1KiB..8KiB"), (Sizes{kKiB, 2 * kKiB, 4 * kKiB, 8 * kKiB}));
  EXPECT_EQ(parse_sizes("1KiB..64KiBx4"), (Sizes{kKiB, 4 * kKiB, 16 * kKiB, 64 * kKiB}));
  EXPECT_EQ(parse_sizes("3..20,7"), (Sizes{3, 6, 12, 7}));
  EXPECT_EQ(parse_sizes("4..4"), Sizes{4});
}

TEST(Collective, RefusesWhatIsNoSize) {
  for (const char* text : {"", "x", "0", "-4", "4,", "8..4", "..8", "8..", "1..8x", "1..8x1"}) {
    EXPECT_THROW((void)parse_sizes(text), UsageError) << text;
  }
}

TEST(Collective, SuggestsAName) {
  EXPECT_EQ(parse_collective("all_to_all"), Collective::all_to_all);
  try {
    (void)parse_collective("allredcue");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "no collective 'allredcue'; did you mean 'allreduce'?");
  }
}

}  // namespace
}  // namespace isobar::bench::collective_test
