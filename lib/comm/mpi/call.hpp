// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <mpi.h>

#include <isobar/comm/reduction.hpp>
#include <vector>

namespace isobar {

/// Throws CommError with MPI's own text unless `status` is MPI_SUCCESS.
void mpi_check(int status, const char* call);

/// The same for calls on several requests, whose errors are in their statuses.
void mpi_check_all(int status, const std::vector<MPI_Status>& statuses, const char* call);

/// MPI's type for the elements of a tensor; moved values only need the width.
MPI_Datatype mpi_type(at::ScalarType type);

MPI_Op mpi_op(ReduceOp op);

}  // namespace isobar
