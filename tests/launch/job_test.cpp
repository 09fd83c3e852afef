// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/environment.hpp>

#include <gtest/gtest.h>

#include <filesystem>

#include "comm/expect_error.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::job_test {
namespace {

LaunchEnvironment by_hand(int rank, int size) {
  return {.launcher = "torchrun", .rank = rank, .size = size};
}

TEST(Job, IsToldWhereNoLauncherNamesThem) {
  const auto job = [](const Variables& variables, const LaunchEnvironment& launch) {
    const ScopedEnvironment environment(variables);
    return job_of(launch);
  };
  const auto own = job({}, by_hand(1, 2));
  expect_contains(own, "launch_test");
  expect_contains(own, " in " + std::filesystem::current_path().string());
  EXPECT_EQ(job({}, {.launcher = "slurm", .size = 2}), "");
  EXPECT_EQ(job({{"TORCHELASTIC_RUN_ID", "none"}}, by_hand(1, 2)), "");
  EXPECT_EQ(job({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}, by_hand(1, 2)), "");
  EXPECT_EQ(job({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}, by_hand(1, 2)), own);
  EXPECT_EQ(job({{"ISOBAR_JOB", "a"}}, by_hand(1, 2)), "ISOBAR_JOB=a");
}

}  // namespace
}  // namespace isobar::test::job_test
