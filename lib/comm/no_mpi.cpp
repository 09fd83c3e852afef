// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>

namespace isobar {

std::unique_ptr<Communicator> make_mpi_communicator(std::chrono::milliseconds) {
  throw UsageError(
      "backend mpi: isobar was built without MPI; configure it with -DISOBAR_MPI=ON, or start one "
      "rank without a launcher");
}

std::string mpi_library_version() { return {}; }

}  // namespace isobar
