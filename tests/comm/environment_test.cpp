// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/environment.hpp>

#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <string>

#include "comm/expect_error.hpp"
#include "comm/scoped_environment.hpp"

namespace isobar::test::environment_test {
namespace {

void expect_launch(const Variables& variables, const LaunchEnvironment& wanted) {
  const ScopedEnvironment environment(variables);
  const auto got = read_launch_environment();
  EXPECT_EQ(got.launcher, wanted.launcher);
  EXPECT_EQ(got.rank, wanted.rank);
  EXPECT_EQ(got.size, wanted.size);
  EXPECT_EQ(got.local_rank, wanted.local_rank);
  EXPECT_EQ(got.local_size, wanted.local_size);
}

const Variables kOpenMpi{{"OMPI_COMM_WORLD_RANK", "5"},
                         {"OMPI_COMM_WORLD_SIZE", "8"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};

TEST(LaunchEnvironment, IsOneRankWithoutALauncher) { expect_launch({}, {}); }

TEST(LaunchEnvironment, ReadsOpenMpi) { expect_launch(kOpenMpi, {"openmpi", 5, 8, 1, 4}); }

TEST(LaunchEnvironment, PrefersMpirunToTheStepItRunsIn) {
  auto variables = kOpenMpi;
  variables.insert({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  expect_launch(variables, {"openmpi", 5, 8, 1, 4});
}

TEST(LaunchEnvironment, ReadsPmi) {
  expect_launch(
      {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}},
      {"pmi", 3, 4, 1, 2});
}

TEST(LaunchEnvironment, ReadsPmixUnderSlurm) {
  expect_launch({{"PMIX_RANK", "2"},
                 {"SLURM_PROCID", "2"},
                 {"SLURM_STEP_NUM_TASKS", "6"},
                 {"SLURM_NODEID", "1"},
                 {"SLURM_STEP_TASKS_PER_NODE", "2(x3)"},
                 {"SLURM_LOCALID", "0"}},
                {"pmi", 2, 6, 0, 2});
}

TEST(LaunchEnvironment, ReadsSlurmAndTheTasksOfItsNode) {
  Variables variables{{"SLURM_PROCID", "9"},
                      {"SLURM_STEP_NUM_TASKS", "11"},
                      {"SLURM_LOCALID", "1"},
                      {"SLURM_NODEID", "2"},
                      {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"}};
  expect_launch(variables, {"slurm", 9, 11, 1, 3});
  variables["SLURM_NODEID"] = "1";
  expect_launch(variables, {"slurm", 9, 11, 1, 4});
}

TEST(LaunchEnvironment, CountsTheTasksOfASlurmStepWithoutAStepSize) {
  expect_launch({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}},
                {"slurm", 1, 2, 0, 1});
}

TEST(LaunchEnvironment, ReadsTorchrunBeforeTheSlurmStepItRunsIn) {
  expect_launch({{"RANK", "3"},
                 {"WORLD_SIZE", "4"},
                 {"LOCAL_RANK", "1"},
                 {"LOCAL_WORLD_SIZE", "2"},
                 {"SLURM_PROCID", "1"},
                 {"SLURM_STEP_NUM_TASKS", "2"}},
                {"torchrun", 3, 4, 1, 2});
}

TEST(LaunchEnvironment, TakesABatchScriptForOneRank) {
  expect_launch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "0"}}, {});
}

TEST(LaunchEnvironment, RefusesWhatIsNotANumber) {
  for (const char* text : {"two", "2x", "-1", "99999999999"}) {
    const ScopedEnvironment environment(Variables{{"PMI_RANK", text}, {"PMI_SIZE", "4"}});
    expect_contains(error_of<UsageError>([] { read_launch_environment(); }),
                    "environment variable PMI_RANK is '" + std::string(text) + "'");
  }
}

TEST(LaunchEnvironment, RefusesARankOutsideTheWorld) {
  const ScopedEnvironment environment(Variables{{"PMI_RANK", "4"}, {"PMI_SIZE", "4"}});
  expect_contains(error_of<UsageError>([] { read_launch_environment(); }),
                  "rank 4 is not one of 4");
}

TEST(LaunchEnvironment, RefusesPmixWithoutASize) {
  const ScopedEnvironment environment(Variables{{"PMIX_RANK", "0"}});
  expect_contains(error_of<UsageError>([] { read_launch_environment(); }), "export PMI_SIZE");
}

TEST(MakeCommunicator, MakesOneRankWithoutALauncher) {
  const ScopedEnvironment environment(Variables{});
  const auto comm = make_communicator({.timeout = std::chrono::seconds(7)});
  EXPECT_EQ(comm->backend(), "self");
  EXPECT_EQ(comm->size(), 1);
  EXPECT_EQ(comm->timeout(), std::chrono::seconds(7));
}

TEST(MakeCommunicator, RefusesSelfUnderALauncherOfSeveralRanks) {
  const ScopedEnvironment environment(kOpenMpi);
  expect_contains(error_of<UsageError>([] { make_communicator({.backend = "self"}); }),
                  "openmpi started 8 ranks, but backend self reaches 1");
}

TEST(MakeCommunicator, RefusesAnUnknownBackend) {
  expect_contains(error_of<UsageError>([] { make_communicator({.backend = "nccl2"}); }),
                  "no backend 'nccl2'; choose auto, nccl, mpi, gloo, shm or self");
}

}  // namespace
}  // namespace isobar::test::environment_test
