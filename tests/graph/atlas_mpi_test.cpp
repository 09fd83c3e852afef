// SPDX-License-Identifier: Apache-2.0
#include <isobar/graph/grid.hpp>
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdlib>

namespace isobar::atlas_mpi_test {
namespace {

// Atlas's runtime initialises MPI at MPI_THREAD_SINGLE where it finds itself under a launcher;
// isobar needs it at a higher level and does that itself.
TEST(GaussianGrid, LeavesMpiToIsobar) {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    setenv(variable, "2", 1);
  }

  EXPECT_EQ(make_gaussian_grid("N32").size(), 6114);
  EXPECT_EQ(make_gaussian_grid("O16").size(), 1600);

  int initialised = 1;
  MPI_Initialized(&initialised);
  EXPECT_EQ(initialised, 0);
}

}  // namespace
}  // namespace isobar::atlas_mpi_test
