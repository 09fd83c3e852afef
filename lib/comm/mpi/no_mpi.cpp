// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>

#include "comm/mpi/communicator.hpp"

namespace isobar {
namespace {

[[noreturn]] void refuse_mpi() {
  throw UsageError(
      "backend mpi: isobar was built without MPI; configure it with -DISOBAR_MPI=ON, or start one "
      "rank without a launcher");
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions&) { refuse_mpi(); }

std::unique_ptr<Communicator> make_mpi_communicator(std::chrono::milliseconds) { refuse_mpi(); }

std::vector<std::string> mpi_gather(const std::string&, std::chrono::milliseconds) { refuse_mpi(); }

std::string mpi_library_version() { return {}; }

}  // namespace isobar
