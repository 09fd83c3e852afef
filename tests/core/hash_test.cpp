// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/hash.hpp>

#include <gtest/gtest.h>

namespace isobar::hash_test {
namespace {

TEST(Hash, Fnv1aGivesItsAuthorsValues) {
  EXPECT_EQ(fnv1a(""), 0xcbf29ce484222325);
  EXPECT_EQ(fnv1a("a"), 0xaf63dc4c8601ec8c);
  EXPECT_EQ(fnv1a("foobar"), 0x85944171f73967e8);
}

TEST(Hash, Splitmix64GivesThePublishedSequence) {
  // The first outputs from the seed 1234567, as the reference implementation prints them.
  EXPECT_EQ(splitmix64(1234567 + kSplitmix64Step), 6457827717110365317U);
  EXPECT_EQ(splitmix64(1234567 + 2 * kSplitmix64Step), 3203168211198807973U);
}

}  // namespace
}  // namespace isobar::hash_test
