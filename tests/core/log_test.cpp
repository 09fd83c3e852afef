// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/log.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <algorithm>
#include <regex>
#include <thread>
#include <vector>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::log_test {
namespace {

template <typename Action>
std::string stderr_of(Action&& action) {
  testing::internal::CaptureStderr();
  action();
  return testing::internal::GetCapturedStderr();
}

TEST(Log, TagsLinesWithTimeRankAndStep) {
  const std::string text = stderr_of([] {
    Logger log({.rank = 0, .size = 4});
    log.info("read {} samples", 12);
    log.set_step(120);
    log.warn("slow");
    log.error("lost");
  });
  const std::regex expected(R"(\d\d:\d\d:\d\d \[rank 0/4\] read 12 samples\n)"
                            R"(\d\d:\d\d:\d\d \[rank 0/4 step 120\] warning: slow\n)"
                            R"(\d\d:\d\d:\d\d \[rank 0/4 step 120\] error: lost\n)");
  EXPECT_TRUE(std::regex_match(text, expected)) << text;
}

TEST(Log, LetsOnlyTheFirstRanksWriteToStandardError) {
  EXPECT_EQ(stderr_of([] { Logger({.rank = 1, .size = 2}).error("lost"); }), "");
  EXPECT_NE(stderr_of([] { Logger({.rank = 1, .size = 2, .console_ranks = 2}).info("x"); }), "");
}

TEST(Log, GivesEveryRankItsOwnFileAndContinuesIt) {
  const test::TemporaryFolder folder;
  for (const char* message : {"first", "second"}) {
    Logger log({.rank = 1, .size = 2, .folder = folder / "log"});
    log.info("{}", message);
  }
  const std::string text = test::read_file(folder / "log/rank_0001.log");
  EXPECT_NE(text.find("[rank 1/2] first\n"), std::string::npos);
  EXPECT_NE(text.find("[rank 1/2] second\n"), std::string::npos);
}

TEST(Log, KeepsLinesWholeWhenManyThreadsWrite) {
  const test::TemporaryFolder folder;
  Logger log({.rank = 7, .size = 8, .folder = folder.path()});
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) log.info("{}", std::string(200, 'x'));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = test::read_file(folder / "rank_0007.log");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 400);
  const std::size_t line = std::string("00:00:00 [rank 7/8] ").size() + 200 + 1;
  EXPECT_EQ(text.size(), 400 * line);
}

TEST(Log, NamesAFileThatCannotBeOpened) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "file", "");
  const std::string message =
      test::message_of<Error>([&] { Logger({.rank = 3, .size = 4, .folder = folder / "file"}); });
  EXPECT_EQ(message.find("log of rank 3: cannot open "), 0U) << message;
  EXPECT_NE(message.find("file/rank_0003.log"), std::string::npos) << message;
}

}  // namespace
}  // namespace isobar::log_test
