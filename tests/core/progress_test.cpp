// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/progress.hpp>

#include <gtest/gtest.h>

#include <sstream>

namespace isobar::progress_test {
namespace {

/// A Progress of 100 steps that writes to a string and whose time is set.
class ProgressTest : public testing::Test {
 protected:
  ProgressOptions options(bool terminal) {
    return {.label = "train",
            .total = 100,
            .terminal = terminal,
            .columns = 120,
            .out = &out,
            .clock_s = [this] { return now_s; },
            .time_of_day = [] { return "12:00:01"; }};
  }

  std::string take() {
    std::string text = out.str();
    out.str("");
    return text;
  }

  std::ostringstream out;
  double now_s = 1000;
};

TEST_F(ProgressTest, WritesPlainLinesAtIntervalsAndTheLast) {
  Progress progress(options(false));
  now_s += 5;
  progress.update(10);
  EXPECT_EQ(take(), "");
  now_s += 5;
  progress.update(20, {{"loss", 0.53125}});
  EXPECT_EQ(take(), "12:00:01 train 20/100 (20 %), loss 0.5312, 2 step/s, 40 s left\n");
  progress.update(100, {{"loss", 0.25}});
  EXPECT_EQ(take(), "");
  progress.finish();
  EXPECT_EQ(take(), "12:00:01 train 100/100 (100 %), loss 0.25, 10 step/s\n");
  progress.finish();
  EXPECT_EQ(take(), "");
}

TEST_F(ProgressTest, WritesThePlainLineOfTheLastStateOnce) {
  Progress progress(options(false));
  now_s += 10;
  progress.update(100);
  EXPECT_EQ(take(), "12:00:01 train 100/100 (100 %), 10 step/s\n");
  now_s += 1;
  progress.finish();
  EXPECT_EQ(take(), "");
}

TEST_F(ProgressTest, RedrawsABarAtMostTenTimesASecond) {
  Progress progress(options(true));
  int drawn = 0;
  for (int step = 1; step <= 100; ++step) {
    now_s += 0.01;
    progress.update(step);
    if (!take().empty()) ++drawn;
  }
  EXPECT_GE(drawn, 9);
  EXPECT_LE(drawn, 11);
}

TEST_F(ProgressTest, DrawsTheBarOverTheLineBefore) {
  Progress progress(options(true));
  now_s += 10;
  progress.update(50);
  EXPECT_EQ(take(), "\r\x1b[K[============            ] train 50/100 (50 %), 5 step/s, 10 s left");
  progress.finish();
  EXPECT_EQ(take().back(), '\n');
}

TEST_F(ProgressTest, LeavesTheLineOfABarThatWasNotFinished) {
  {
    Progress progress(options(true));
    progress.update(1);
    take();
  }
  EXPECT_EQ(take(), "\n");
}

TEST_F(ProgressTest, ShowsLossRateAndTimeLeftOnEightyColumns) {
  ProgressOptions narrow = options(true);
  narrow.columns = 80;
  narrow.label = "training";
  narrow.total = 260000;
  Progress progress(narrow);
  now_s += 36000;
  progress.update(123456, {{"loss", 0.0123456}, {"samples/s", 123.456}});
  EXPECT_EQ(take(),
            "\r\x1b[Ktraining 123456/260000 (47 %), loss 0.01235, "
            "3.43 step/s, 11 h 03 min left");
}

TEST_F(ProgressTest, LeavesOutWholePartsWhereColumnsAreFew) {
  for (const auto& [columns, line] : {std::pair(40, "train 50/100 (50 %), loss 0.25, 5 step/s"),
                                      {36, "train 50/100 (50 %), loss 0.25"},
                                      {20, "train 50/100 (50 %)"},
                                      {8, "train 50"}}) {
    ProgressOptions narrow = options(true);
    narrow.columns = columns + 1;
    now_s = 1000;
    Progress progress(narrow);
    now_s += 10;
    progress.update(50, {{"loss", 0.25}});
    EXPECT_EQ(take(), std::string("\r\x1b[K") + line);
    progress.finish();
    take();
  }
}

TEST_F(ProgressTest, CountsTheRateFromWhereAResumedRunBegan) {
  ProgressOptions resumed = options(false);
  resumed.start = 80;
  Progress progress(resumed);
  now_s += 10;
  progress.update(90);
  EXPECT_EQ(take(), "12:00:01 train 90/100 (90 %), 1 step/s, 10 s left\n");
}

TEST_F(ProgressTest, DoesWithoutATotal) {
  ProgressOptions endless = options(false);
  endless.total = 0;
  Progress progress(endless);
  now_s += 10;
  progress.update(5);
  EXPECT_EQ(take(), "12:00:01 train 5, 0.5 step/s\n");
}

TEST_F(ProgressTest, IsSilentOnOtherRanks) {
  ProgressOptions other = options(true);
  other.rank = 1;
  {
    Progress progress(other);
    progress.update(50);
    progress.finish();
  }
  EXPECT_EQ(take(), "");
}

}  // namespace
}  // namespace isobar::progress_test
