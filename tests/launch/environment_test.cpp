// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/environment.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "launch/scoped_environment.hpp"

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

/// As LibTorch says it.
const std::runtime_error kShapes("shapes (16x8 and 9x1)\nException raised from mm at a.cpp:9\n#0:");

std::string line_on_rank_1(const std::exception& error) {
  const ScopedEnvironment environment({{"RANK", "1"}, {"WORLD_SIZE", "12"}});
  return error_line(error);
}

TEST(ErrorLine, NamesTheRankAndTakesTheFirstLine) {
  EXPECT_EQ(line_on_rank_1(kShapes), "rank 1 of 12: shapes (16x8 and 9x1)");
  EXPECT_EQ(line_on_rank_1(DataError("rank 11 has left")), "rank 1 of 12: rank 11 has left");
}

TEST(ErrorLine, NamesNoRankThatIsNamedOrDoesNotMatter) {
  EXPECT_EQ(line_on_rank_1(CommError("barrier #4 on rank 1 of 12: no answer in 30 s")),
            "barrier #4 on rank 1 of 12: no answer in 30 s");
  CommError known("weights differ");
  known.set_known_to_all();
  EXPECT_EQ(line_on_rank_1(known), "weights differ");
  const ScopedEnvironment alone({});
  EXPECT_EQ(error_line(kShapes), "shapes (16x8 and 9x1)");
}

TEST(ErrorLine, SaysThatTheEnvironmentMakesNoSense) {
  const ScopedEnvironment environment({{"RANK", "none"}, {"WORLD_SIZE", "2"}});
  EXPECT_EQ(error_line(UsageError("RANK is 'none'")), "RANK is 'none'");
}

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

/// All of `parts` are in the error that the launch variables give.
void expect_refused(const Variables& variables, const std::vector<std::string>& parts) {
  const ScopedEnvironment environment(variables);
  const auto text = error_of<UsageError>([] { read_launch_environment(); });
  for (const auto& part : parts) expect_contains(text, part);
}

TEST(LaunchEnvironment, RefusesPmixWithoutASize) {
  expect_refused({{"PMIX_RANK", "0"}}, {"PMIX_RANK=0", "export PMI_SIZE"});
}

const Variables kStepOfTwo{
    {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_LOCALID", "0"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(LaunchEnvironment, RefusesAWorldSmallerThanItsStep) {
  expect_refused(with(kStepOfTwo, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}),
                 {"RANK=0 and WORLD_SIZE=1", "SLURM_PROCID=1 and SLURM_STEP_NUM_TASKS=2",
                  "unset RANK and WORLD_SIZE"});
  expect_refused({{"RANK", "1"},
                  {"WORLD_SIZE", "2"},
                  {"SLURM_PROCID", "1"},
                  {"SLURM_NTASKS", "4"},
                  {"SLURM_STEP_ID", "0"}},
                 {"WORLD_SIZE=2", "SLURM_NTASKS=4"});
}

TEST(LaunchEnvironment, TakesWhatTorchrunMadeInEachTaskOfAStep) {
  const auto elastic = with(kStepOfTwo, {{"TORCHELASTIC_RUN_ID", "none"}});
  expect_launch(with(elastic, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}), {"torchrun", 0, 1, 0, 1});
  auto under_pmix = with(elastic, {{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}});
  under_pmix["PMIX_RANK"] = "1";
  expect_launch(under_pmix, {"torchrun", 5, 8, 1, 2});
}

TEST(LaunchEnvironment, TakesHandMadeRanksThatFillTheirStep) {
  const Variables both{{"RANK", "1"}, {"WORLD_SIZE", "2"}};
  expect_launch(with(kStepOfTwo, both), {"torchrun", 1, 2, 0, 1});
  const Variables batch{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}};
  expect_launch(with(batch, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}), {"torchrun", 0, 1, 0, 1});
}

TEST(LaunchEnvironment, LetsMpirunCountPastWhatIsLeftOver) {
  expect_launch(with(kOpenMpi, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}), {"openmpi", 5, 8, 1, 4});
}

TEST(LaunchEnvironment, RefusesALauncherOfOneRankAmongHandMadeOnes) {
  const Variables hand{{"RANK", "1"}, {"WORLD_SIZE", "2"}};
  expect_refused(with(hand, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}),
                 {"OMPI_COMM_WORLD_RANK=0 and OMPI_COMM_WORLD_SIZE=1", "RANK=1 and WORLD_SIZE=2"});
  expect_refused(with(hand, {{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}),
                 {"PMI_RANK=0 and PMI_SIZE=1", "RANK=1 and WORLD_SIZE=2"});
}

TEST(LaunchEnvironment, RefusesHalfAPair) {
  expect_refused({{"RANK", "1"}}, {"RANK=1 is set, and WORLD_SIZE is not"});
  expect_refused({{"WORLD_SIZE", "2"}}, {"WORLD_SIZE=2 is set, and RANK is not"});
  expect_refused({{"WORLD_SIZE", "2"}, {"RANK", ""}}, {"WORLD_SIZE=2 is set, and RANK is not"});
  expect_refused({{"OMPI_COMM_WORLD_RANK", "1"}}, {"OMPI_COMM_WORLD_SIZE is not"});
  expect_launch(with(kStepOfTwo, {{"RANK", "0"}}), {"slurm", 1, 2, 0, 1});
}

TEST(LaunchEnvironment, RefusesAPlaceOutsideTheNode) {
  const Variables world{{"RANK", "1"}, {"WORLD_SIZE", "4"}};
  const auto refused = [&](const char* rank, const char* size, const std::string& part) {
    expect_refused(with(world, {{"LOCAL_RANK", rank}, {"LOCAL_WORLD_SIZE", size}}), {part});
  };
  refused("2", "2", "LOCAL_RANK=2, LOCAL_WORLD_SIZE=2");
  refused("0", "0", "LOCAL_RANK=0, LOCAL_WORLD_SIZE=0");
  refused("0", "5", "LOCAL_WORLD_SIZE=5, WORLD_SIZE=4");
  refused("-1", "2", "LOCAL_RANK is '-1'");
  refused("1", "two", "LOCAL_WORLD_SIZE is 'two'");
  expect_launch(with(world, {{"LOCAL_RANK", "3"}}), {"torchrun", 1, 4, 3, 4});
  expect_refused(with(world, {{"LOCAL_RANK", "4"}}), {"LOCAL_RANK=4, WORLD_SIZE=4"});
  auto openmpi = kOpenMpi;
  openmpi["OMPI_COMM_WORLD_LOCAL_RANK"] = "4";
  expect_refused(openmpi, {"OMPI_COMM_WORLD_LOCAL_RANK=4, OMPI_COMM_WORLD_LOCAL_SIZE=4"});
}

TEST(LaunchEnvironment, ShowsARankThatIsNoneOfItsWorld) {
  expect_refused({{"RANK", "4"}, {"WORLD_SIZE", "4"}}, {"RANK=4", "WORLD_SIZE=4"});
  expect_refused({{"RANK", "0"}, {"WORLD_SIZE", "0"}}, {"WORLD_SIZE=0"});
  expect_refused({{"SLURM_PROCID", "2"}, {"SLURM_STEP_NUM_TASKS", "2"}},
                 {"SLURM_PROCID=2", "SLURM_STEP_NUM_TASKS=2"});
  for (const char* text : {"1.5", " 1", "+1", "0x1", "1 "}) {
    expect_refused({{"RANK", text}, {"WORLD_SIZE", "4"}},
                   {"RANK is '" + std::string(text) + "', wanted a number of at least 0"});
  }
}

TEST(LaunchEnvironment, ListsAllVariables) {
  const ScopedEnvironment environment(Variables{{"ISOBAR_JOB", "a=b"}, {"RANK", ""}});
  const auto all = environment_variables();
  EXPECT_EQ(all.at("ISOBAR_JOB"), "a=b");
  EXPECT_EQ(all.at("RANK"), "");
  EXPECT_FALSE(all.contains("WORLD_SIZE"));
}

TEST(LaunchEnvironment, KnowsFromWhatALibraryOfMpiStarts) {
  const LaunchEnvironment pmi{.launcher = "pmi", .size = 2};
  const LaunchEnvironment openmpi{.launcher = "openmpi", .size = 2};
  const std::string open = "Open MPI v4.1.4, package: Debian OpenMPI";
  const std::string mpich = "MPICH Version: 4.0.2";
  {
    const ScopedEnvironment environment(Variables{{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}});
    EXPECT_FALSE(starts_mpi(pmi, open));
    EXPECT_TRUE(starts_mpi(pmi, mpich));
    EXPECT_FALSE(starts_mpi({.launcher = "slurm", .size = 2}, mpich));
  }
  const ScopedEnvironment environment(Variables{{"PMIX_RANK", "0"}});
  EXPECT_TRUE(starts_mpi(pmi, open));
  EXPECT_TRUE(starts_mpi(openmpi, open));
}

TEST(LaunchEnvironment, LetsEachSpeakForItselfWhereItContradictsItself) {
  {
    const ScopedEnvironment environment(kOpenMpi);
    EXPECT_EQ(launch_rank_or_zero(), 5);
  }
  const ScopedEnvironment environment(Variables{{"RANK", "two"}, {"WORLD_SIZE", "4"}});
  EXPECT_EQ(launch_rank_or_zero(), 0);
}

}  // namespace
}  // namespace isobar::test::environment_test
