// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/job_watch.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/message_of.hpp"

namespace isobar::job_watch_test {
namespace {

/// What a watch says of these states, one look each; "down" is a failure.
std::vector<std::string> lines_of(const std::vector<JobState>& states) {
  std::size_t next = 0;
  JobWatch watch([&] {
    const auto& state = states.at(next++);
    if (state.state == "down") throw Error(state.reason);
    return state;
  });
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < states.size(); ++i) lines.push_back(watch.look());
  return lines;
}

using Lines = std::vector<std::string>;

TEST(JobWatch, SaysStateAndReasonOnceAndWhenTheyChange) {
  const JobState waits{.id = "5", .state = "PENDING", .reason = "Priority"};
  const JobState held{.id = "5", .state = "PENDING", .reason = "Resources"};
  const JobState runs{.id = "5", .state = "RUNNING"};
  EXPECT_EQ(lines_of({waits, waits, held, runs, runs}),
            (Lines{"PENDING, Priority", "", "PENDING, Resources", "RUNNING", ""}));
}

TEST(JobWatch, SaysOnceThatSlurmDoesNotAnswerAndAsksAgain) {
  const JobState down{.id = "5", .state = "down", .reason = "Socket timed out"};
  const JobState runs{.id = "5", .state = "RUNNING"};
  const std::string said = "Socket timed out; it will be asked again";
  EXPECT_EQ(lines_of({runs, down, down, runs, down}), (Lines{"RUNNING", said, "", "", said}));
}

TEST(JobWatch, GivesUpAfterTenFailuresInARow) {
  int asked = 0;
  JobWatch watch([&]() -> JobState {
    if (++asked == 10) return {.id = "5", .state = "RUNNING"};
    throw Error("down");
  });
  for (int look = 0; look < 19; ++look) watch.look();
  EXPECT_EQ(watch.state().state, "RUNNING");
  EXPECT_EQ(test::message_of<Error>([&] { watch.look(); }), "down");
}

TEST(JobWatch, DoesNotAskAgainWhereSlurmIsNot) {
  JobWatch watch([]() -> JobState { throw UsageError("scontrol is not on the PATH"); });
  EXPECT_EQ(test::message_of<UsageError>([&] { watch.look(); }), "scontrol is not on the PATH");
}

}  // namespace
}  // namespace isobar::job_watch_test
