// SPDX-License-Identifier: Apache-2.0
// Operations by MPI's own calls. Its collectives serve small buffers, whose sizes an int can count.
#include "comm/mpi/library.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/tensor_bytes.hpp"
#include "comm/mpi/call.hpp"

namespace isobar {
namespace {

using Requests = std::vector<MPI_Request>;

/// MPI's counts are int; longer messages go in pieces of this many elements.
constexpr int kLargestPiece = 1 << 30;

MPI_Request& next(Requests& requests) { return requests.emplace_back(MPI_REQUEST_NULL); }

int count_of(const at::Tensor& tensor) { return static_cast<int>(tensor.numel()); }

void start_allreduce(const Operation& operation, MPI_Comm comm, Requests& requests) {
  const auto& values = operation.output;
  mpi_check(MPI_Iallreduce(MPI_IN_PLACE, values.data_ptr(), count_of(values),
                           mpi_type(values.scalar_type()), mpi_op(operation.reduce), comm,
                           &next(requests)),
            "MPI_Iallreduce");
}

void start_reduce_scatter(const Operation& operation, MPI_Comm comm, Requests& requests) {
  const auto& output = operation.output;
  mpi_check(MPI_Ireduce_scatter_block(operation.input.data_ptr(), output.data_ptr(),
                                      count_of(output), mpi_type(output.scalar_type()),
                                      mpi_op(operation.reduce), comm, &next(requests)),
            "MPI_Ireduce_scatter_block");
}

void start_all_gather(const Operation& operation, MPI_Comm comm, Requests& requests) {
  const auto& input = operation.input;
  const auto type = mpi_type(input.scalar_type());
  mpi_check(MPI_Iallgather(input.data_ptr(), count_of(input), type, operation.output.data_ptr(),
                           count_of(input), type, comm, &next(requests)),
            "MPI_Iallgather");
}

void start_broadcast(const Operation& operation, MPI_Comm comm, Requests& requests) {
  const auto& buffer = operation.output;
  mpi_check(MPI_Ibcast(buffer.data_ptr(), count_of(buffer), mpi_type(buffer.scalar_type()),
                       operation.peer, comm, &next(requests)),
            "MPI_Ibcast");
}

/// Calls `call(address, count)` for each piece of the tensor.
template <typename Call>
void for_pieces(const at::Tensor& tensor, const Call& call) {
  auto* start = bytes_of(tensor);
  const auto width = static_cast<int64_t>(tensor.element_size());
  for (const auto& [offset, count] : pieces(tensor.numel(), kLargestPiece)) {
    call(start + offset * width, count);
  }
}

void send(const Operation& operation, MPI_Comm comm, Requests& requests) {
  for_pieces(operation.input, [&](void* address, int count) {
    mpi_check(MPI_Isend(address, count, mpi_type(operation.input.scalar_type()), operation.peer,
                        operation.tag, comm, &next(requests)),
              "MPI_Isend");
  });
}

void receive(const Operation& operation, MPI_Comm comm, Requests& requests) {
  for_pieces(operation.output, [&](void* address, int count) {
    mpi_check(MPI_Irecv(address, count, mpi_type(operation.output.scalar_type()), operation.peer,
                        operation.tag, comm, &next(requests)),
              "MPI_Irecv");
  });
}

void start(const Operation& operation, MPI_Comm comm, Requests& requests) {
  switch (operation.kind) {
    case OperationKind::allreduce:
      return start_allreduce(operation, comm, requests);
    case OperationKind::reduce_scatter:
      return start_reduce_scatter(operation, comm, requests);
    case OperationKind::all_gather:
      return start_all_gather(operation, comm, requests);
    case OperationKind::broadcast:
      return start_broadcast(operation, comm, requests);
    case OperationKind::send:
      return send(operation, comm, requests);
    case OperationKind::receive:
      return receive(operation, comm, requests);
    case OperationKind::barrier:
      return mpi_check(MPI_Ibarrier(comm, &next(requests)), "MPI_Ibarrier");
    case OperationKind::all_to_all:
      break;  // always by messages
  }
}

/// A message that is too long is MPI's error; one that is too short is not.
void check_received(const Operation& operation, const std::vector<MPI_Status>& statuses) {
  if (operation.kind != OperationKind::receive) return;
  const auto type = mpi_type(operation.output.scalar_type());
  int64_t received = 0;
  for (const auto& status : statuses) {
    int count = 0;
    mpi_check(MPI_Get_count(&status, type, &count), "MPI_Get_count");
    received += count;
  }
  if (received == operation.output.numel()) return;
  throw CommError(detail::join("got ", received, " elements, wanted ", operation.signature()));
}

/// At least a byte, so that the pace is that of the way between the ranks.
MpiLoad load_of(const Operation& operation, const MpiLink& link) {
  return {std::max<int64_t>(byte_count(values_of(operation)), 1), link.one_node};
}

}  // namespace

std::shared_ptr<MpiTask> make_library_task(Operation operation, const MpiLink& link) {
  const auto load = load_of(operation, link);
  const auto shared = std::make_shared<const Operation>(std::move(operation));
  // Holds the communicator: Open MPI's collectives crash where it is freed before they end.
  auto calls = [shared, comm = link.comm](Requests& requests) { start(*shared, *comm, requests); };
  auto check = [shared](const auto& statuses) { check_received(*shared, statuses); };
  return std::make_shared<MpiCalls>(std::move(calls), std::move(check), load);
}

std::vector<std::pair<int64_t, int>> pieces(int64_t total, int largest) {
  std::vector<std::pair<int64_t, int>> all;
  int64_t offset = 0;
  do {
    const auto count = static_cast<int>(std::min<int64_t>(largest, total - offset));
    all.emplace_back(offset, count);
    offset += count;
  } while (offset < total);
  return all;
}

}  // namespace isobar
