// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/run_progress.hpp>

#include "core/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace isobar::run_progress_test {
namespace {

constexpr const char* kMetrics =
    R"({"event": "step", "step": 10, "loss": 0.5}
{"event": "checkpoint", "step": 10, "path": "checkpoints/10"}
{"event": "validation", "step": 10}
{"event": "step", "step": 20, "loss": 0.25}
)";

std::optional<RunProgress> progress_of(const std::string& metrics) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "record.json", R"({"start_time": "2026-11-30T20:00:00Z"})");
  test::write_file(folder / "metrics.jsonl", metrics);
  return read_progress(folder.path());
}

TEST(RunProgress, IsTheLastStepAndCheckpoint) {
  const auto progress = progress_of(kMetrics);
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->began, "2026-11-30T20:00:00Z");
  EXPECT_EQ(progress->step, 20);
  EXPECT_EQ(progress->loss, 0.25);
  EXPECT_EQ(progress->checkpoint, 10);
}

TEST(RunProgress, LeavesOutALineThatIsBeingWritten) {
  EXPECT_EQ(progress_of(std::string(kMetrics) + R"({"event": "step", "st)")->step, 20);
}

TEST(RunProgress, HasNoStepBeforeTheFirstAndNoNumberForALossThatIsNone) {
  const auto none = progress_of("");
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->step);
  EXPECT_FALSE(none->checkpoint);
  EXPECT_TRUE(std::isnan(progress_of(R"({"event": "step", "step": 1, "loss": null})")->loss));
}

TEST(RunProgress, IsNothingWhereNoRunHasBegun) {
  const test::TemporaryFolder folder;
  EXPECT_FALSE(read_progress(folder.path()));
  EXPECT_FALSE(read_progress(folder / "absent"));
}

}  // namespace
}  // namespace isobar::run_progress_test
