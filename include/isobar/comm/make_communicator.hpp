// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <memory>
#include <string>

namespace isobar {

struct CommunicatorOptions {
  /// "auto", "mpi" or "self". `auto` is MPI under a launcher (mpirun, srun) that
  /// started more than one rank, and self otherwise.
  std::string backend = "auto";
  std::chrono::milliseconds timeout = kDefaultTimeout;
};

/// The world of this process, as its launcher set it up. Collective over the
/// launched processes. Throws UsageError for a backend that is unknown or not
/// built in, and for a launcher whose ranks the backend cannot reach (a program
/// built without MPI under mpirun would train N times the same).
std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options = {});

/// The MPI world; the file no_mpi.cpp throws UsageError. MPI is initialised by
/// the first call and finalised when the program ends in good order.
std::unique_ptr<Communicator> make_mpi_communicator(
    std::chrono::milliseconds timeout = kDefaultTimeout);

/// What the MPI library calls itself, such as "Open MPI v4.1.4"; empty where
/// isobar was built without MPI. Does not initialise MPI.
std::string mpi_library_version();

}  // namespace isobar
