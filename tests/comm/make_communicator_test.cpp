// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include "comm/expect_error.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::make_communicator_test {
namespace {

TEST(MakeCommunicator, MakesOneRankWithoutALauncher) {
  const ScopedEnvironment environment(Variables{});
  const auto comm = make_communicator({.timeout = std::chrono::seconds(7)});
  EXPECT_EQ(comm->backend(), "self");
  EXPECT_EQ(comm->size(), 1);
  EXPECT_EQ(comm->timeout(), std::chrono::seconds(7));
}

TEST(MakeCommunicator, RefusesSelfUnderALauncherOfSeveralRanks) {
  const ScopedEnvironment environment(
      Variables{{"OMPI_COMM_WORLD_RANK", "5"}, {"OMPI_COMM_WORLD_SIZE", "8"}});
  expect_contains(error_of<UsageError>([] { make_communicator({.backend = "self"}); }),
                  "openmpi started 8 ranks, but backend self reaches 1");
}

TEST(MakeCommunicator, RefusesAnUnknownBackend) {
  expect_contains(error_of<UsageError>([] { make_communicator({.backend = "nccl2"}); }),
                  "no backend 'nccl2'; choose auto, nccl, mpi, gloo, shm or self");
}

}  // namespace
}  // namespace isobar::test::make_communicator_test
