// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/environment.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>

namespace isobar {

std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options) {
  const auto& backend = options.backend;
  ISOBAR_CHECK(backend == "auto" || backend == "mpi" || backend == "self",
               "make_communicator: no backend '", backend, "'; choose auto, mpi or self");
  const auto launch = read_launch_environment();
  std::unique_ptr<Communicator> comm;
  if (backend == "mpi" || (backend == "auto" && launch.size > 1)) {
    comm = make_mpi_communicator(options.timeout);
  } else {
    comm = make_self_communicator();
    comm->set_timeout(options.timeout);
  }
  // Not reached, the others would each do the whole work by themselves.
  ISOBAR_CHECK(launch.launcher == "none" || comm->size() == launch.size,
               "make_communicator: ", launch.launcher, " started ", launch.size,
               " ranks, but backend ", comm->backend(), " reaches ", comm->size(),
               "; use backend mpi, and the launcher of the MPI that isobar was built with");
  return comm;
}

}  // namespace isobar
