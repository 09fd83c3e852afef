// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/text.hpp>

#include <gtest/gtest.h>

namespace isobar::text_test {
namespace {

TEST(Text, CountsEditsWithSwapsOfNeighboursAsOne) {
  EXPECT_EQ(edit_distance("bucket", "bucket"), 0U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("learning_rat", "learning_rate"), 1U);
  EXPECT_EQ(edit_distance("tsep", "step"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(Text, FindsTheNearestCandidate) {
  EXPECT_EQ(nearest("stpes", {"seed", "steps", "stop"}), "steps");
  EXPECT_EQ(nearest("ab", {"ac", "ad"}), "ac");
}

TEST(Text, CountsABeginningAsNear) {
  EXPECT_EQ(nearest("bucket_cap", {"seed", "bucket_cap_bytes"}), "bucket_cap_bytes");
  EXPECT_EQ(nearest("step_size", {"step"}), "step");
}

TEST(Text, FindsNothingWhereNoCandidateIsNear) {
  EXPECT_EQ(nearest("momentum", {"steps", "seed"}), std::nullopt);
  EXPECT_EQ(nearest("momentum", {}), std::nullopt);
}

TEST(Text, SuggestsTheNearestOrListsWhatIsKnown) {
  EXPECT_EQ(did_you_mean("2tt", {"2t", "msl"}), "did you mean '2t'?");
  EXPECT_EQ(did_you_mean("wind", {"2t", "msl"}), "known: 2t, msl");
  EXPECT_EQ(did_you_mean("wind", {}), "known: none");
}

TEST(Text, ReadsSizesWithAndWithoutUnits) {
  EXPECT_EQ(parse_bytes("65536"), 65536);
  EXPECT_EQ(parse_bytes("25MiB"), 25 * 1024 * 1024);
  EXPECT_EQ(parse_bytes("1.5 GiB"), 1610612736);
  EXPECT_EQ(parse_bytes("10 kB"), 10000);
  EXPECT_EQ(parse_bytes("0"), 0);
}

TEST(Text, RefusesWhatIsNoSize) {
  for (const char* text : {"", "MiB", "-1", "5 mib", "5 MiB of", "inf", "nan", "9e18 GiB", "1 2"}) {
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
  }
}

TEST(Text, WritesSizesInTheLargestUnitReached) {
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536 * 1024), "1.5 MiB");
  EXPECT_EQ(format_bytes(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(INT64_MAX), "8388608.0 TiB");
}

TEST(Text, WritesDurationsForPeople) {
  EXPECT_EQ(format_duration(0.52), "0.5 s");
  EXPECT_EQ(format_duration(59.4), "59 s");
  EXPECT_EQ(format_duration(59.6), "1 min 00 s");
  EXPECT_EQ(format_duration(587), "9 min 47 s");
  EXPECT_EQ(format_duration(11100), "3 h 05 min");
}

}  // namespace
}  // namespace isobar::text_test
