// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/job.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>

#include "core/message_of.hpp"

namespace isobar::minutes_test {
namespace {

TEST(Minutes, ReadsEveryFormThatSlurmReads) {
  EXPECT_EQ(parse_minutes("90"), 90);
  EXPECT_EQ(parse_minutes("30:00"), 30);
  EXPECT_EQ(parse_minutes("24:00:00"), 1440);
  EXPECT_EQ(parse_minutes("100:30:00"), 6030);
  EXPECT_EQ(parse_minutes("2-00:00:00"), 2880);
  EXPECT_EQ(parse_minutes("1-06:30"), 1830);
  EXPECT_EQ(parse_minutes("4-12"), 6480);
}

TEST(Minutes, RoundsSecondsUp) {
  EXPECT_EQ(parse_minutes("0:01"), 1);
  EXPECT_EQ(parse_minutes("10:00"), 10);
  EXPECT_EQ(parse_minutes("1:00:01"), 61);
  EXPECT_EQ(parse_minutes("1-00:00:59"), 1441);
}

TEST(Minutes, RefusesWhatIsNoTimeLimit) {
  for (const char* text : {"", "0", "00:00:00", "-5", "1.5", "2h", "1:60", "1:2:3:4", "1-24:00:00",
                           "1-", "-1:00", "1-2-3", "1:1-2", " 90", "9999999999999", "infinite"}) {
    EXPECT_THROW(parse_minutes(text), UsageError) << "'" << text << "'";
  }
  EXPECT_EQ(test::message_of<UsageError>([] { parse_minutes("2h"); }),
            "'2h' is no time limit, wanted minutes such as 90, or a time such as 24:00:00 "
            "(H:MM:SS) or 2-00:00:00 (D-HH:MM:SS)");
}

TEST(Minutes, WritesWhatReadsBackTheSame) {
  EXPECT_EQ(minutes_text(90), "01:30:00");
  EXPECT_EQ(minutes_text(1440), "1-00:00:00");
  EXPECT_EQ(minutes_text(2880 + 61), "2-01:01:00");
  for (const std::int64_t minutes : {1, 59, 60, 1439, 1440, 1441, 100000}) {
    EXPECT_EQ(parse_minutes(minutes_text(minutes)), minutes);
  }
}

}  // namespace
}  // namespace isobar::minutes_test
