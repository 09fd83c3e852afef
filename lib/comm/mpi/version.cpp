// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>

#include <mpi.h>

#include <array>

namespace isobar {

// One of the few MPI functions that may be called before MPI_Init and from any thread.
std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data());
  return whole.substr(0, whole.find_first_of(",\n"));
}

}  // namespace isobar
