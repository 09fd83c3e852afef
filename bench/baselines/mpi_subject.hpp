// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/subject.hpp>

#include <memory>

namespace isobar::bench {

struct MpiSubjectOptions {
  Collective op = Collective::allreduce;
  at::ScalarType type = at::kFloat;
  /// MPI_Iallreduce and MPI_Wait in place of MPI_Allreduce, and so on.
  bool nonblocking = false;
};

/// The MPI library's own collectives over MPI_COMM_WORLD, as it comes. MPI has been
/// initialised. Its backend is the call's name: "mpi_allreduce", "mpi_iallreduce".
std::unique_ptr<Subject> make_mpi_subject(const MpiSubjectOptions& options);

}  // namespace isobar::bench
