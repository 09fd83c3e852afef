// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/call.hpp"

#include <isobar/core/error.hpp>

#include "comm/backend/element_type.hpp"

namespace isobar {

void mpi_check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING + 1] = {};
  int length = 0;
  if (MPI_Error_string(status, text, &length) != MPI_SUCCESS) length = 0;
  throw CommError(
      detail::join(call, " failed: ", std::string(text, length), " (code ", status, ")"));
}

void mpi_check_all(int status, const std::vector<MPI_Status>& statuses, const char* call) {
  if (status == MPI_ERR_IN_STATUS) {
    for (const auto& one : statuses) {
      if (one.MPI_ERROR != MPI_ERR_PENDING) mpi_check(one.MPI_ERROR, call);
    }
  }
  mpi_check(status, call);
}

MPI_Datatype mpi_type(at::ScalarType type) {
  switch (type) {
    case at::kBool:
    case at::kByte:
      return MPI_UINT8_T;
    case at::kChar:
      return MPI_INT8_T;
    case at::kShort:
      return MPI_INT16_T;
    case at::kHalf:
    case at::kBFloat16:
      return MPI_UINT16_T;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    default:
      throw UsageError("backend mpi: no MPI type for " + type_name(type));
  }
}

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return MPI_SUM;
    case ReduceOp::minimum:
      return MPI_MIN;
    case ReduceOp::maximum:
      return MPI_MAX;
  }
  return MPI_OP_NULL;
}

}  // namespace isobar
