// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_task.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>

#include "comm/backend.hpp"
#include "comm/element_type.hpp"
#include "comm/mpi_call.hpp"

namespace isobar {
namespace {

using Requests = std::vector<MPI_Request>;

/// MPI's counts are int; longer buffers go in pieces of this many elements.
constexpr int kLargestPiece = 1 << 30;

MPI_Request& next(Requests& requests) { return requests.emplace_back(MPI_REQUEST_NULL); }

/// Calls `call(address, count)` for each piece of the tensor.
template <typename Call>
void for_pieces(const at::Tensor& tensor, const Call& call) {
  auto* start = static_cast<char*>(tensor.data_ptr());
  const auto width = static_cast<int64_t>(tensor.element_size());
  for (const auto& [offset, count] : pieces(tensor.numel(), kLargestPiece)) {
    call(start + offset * width, count);
  }
}

bool is_wide(const at::Tensor& tensor) {
  return accumulation_type(tensor.scalar_type()) == tensor.scalar_type();
}

void set_allreduce(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  const auto reduce_in_place = [op = mpi_op(operation.reduce), comm](const at::Tensor& values,
                                                                     Requests& requests) {
    for_pieces(values, [&](void* address, int count) {
      mpi_check(MPI_Iallreduce(MPI_IN_PLACE, address, count, mpi_type(values.scalar_type()), op,
                               comm, &next(requests)),
                "MPI_Iallreduce");
    });
  };
  if (is_wide(operation.output)) {
    task.start = [=](Requests& requests) { reduce_in_place(operation.output, requests); };
    return;
  }
  // 16-bit floats are combined in float32, which MPI has, and rounded once.
  const auto wide = std::make_shared<at::Tensor>();
  task.start = [=](Requests& requests) {
    *wide = widened(operation.output);
    reduce_in_place(*wide, requests);
  };
  task.finish = [=](const auto&) { narrow_into(operation.output, *wide); };
}

void set_reduce_scatter(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  const auto scatter = [op = mpi_op(operation.reduce), comm](
                           const at::Tensor& to, const at::Tensor& from, Requests& requests) {
    mpi_check(
        MPI_Ireduce_scatter_block(from.data_ptr(), to.data_ptr(), static_cast<int>(to.numel()),
                                  mpi_type(to.scalar_type()), op, comm, &next(requests)),
        "MPI_Ireduce_scatter_block");
  };
  if (is_wide(operation.output)) {
    task.start = [=](Requests& requests) { scatter(operation.output, operation.input, requests); };
    return;
  }
  const auto wide = std::make_shared<std::pair<at::Tensor, at::Tensor>>();
  task.start = [=](Requests& requests) {
    wide->first = at::empty({operation.output.numel()}, at::kFloat);
    wide->second = widened(operation.input);
    scatter(wide->first, wide->second, requests);
  };
  task.finish = [=](const auto&) { narrow_into(operation.output, wide->first); };
}

void set_all_gather(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  task.start = [=](Requests& requests) {
    const auto type = mpi_type(operation.input.scalar_type());
    const auto count = static_cast<int>(operation.input.numel());
    mpi_check(MPI_Iallgather(operation.input.data_ptr(), count, type, operation.output.data_ptr(),
                             count, type, comm, &next(requests)),
              "MPI_Iallgather");
  };
}

/// Counts and displacements in elements, which MPI reads until the exchange is over.
struct Parts {
  std::vector<int> counts;
  std::vector<int> offsets;

  Parts(const std::vector<int64_t>& rows, const at::Tensor& tensor) {
    int64_t width = 1;
    for (int64_t d = 1; d < tensor.dim(); ++d) width *= tensor.size(d);
    int64_t offset = 0;
    for (const auto row : rows) {
      counts.push_back(static_cast<int>(row * width));
      offsets.push_back(static_cast<int>(offset));
      offset += row * width;
    }
  }
};

void set_all_to_all(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  const auto sent = std::make_shared<Parts>(operation.input_rows, operation.input);
  const auto received = std::make_shared<Parts>(operation.output_rows, operation.output);
  task.start = [=](Requests& requests) {
    const auto type = mpi_type(operation.input.scalar_type());
    mpi_check(MPI_Ialltoallv(operation.input.data_ptr(), sent->counts.data(), sent->offsets.data(),
                             type, operation.output.data_ptr(), received->counts.data(),
                             received->offsets.data(), type, comm, &next(requests)),
              "MPI_Ialltoallv");
  };
}

void set_broadcast(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  task.start = [=](Requests& requests) {
    for_pieces(operation.output, [&](void* address, int count) {
      mpi_check(MPI_Ibcast(address, count, mpi_type(operation.output.scalar_type()), operation.peer,
                           comm, &next(requests)),
                "MPI_Ibcast");
    });
  };
}

void set_send(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  task.start = [=](Requests& requests) {
    for_pieces(operation.input, [&](void* address, int count) {
      mpi_check(MPI_Isend(address, count, mpi_type(operation.input.scalar_type()), operation.peer,
                          operation.tag, comm, &next(requests)),
                "MPI_Isend");
    });
  };
}

void set_receive(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  const auto type = mpi_type(operation.output.scalar_type());
  task.start = [=](Requests& requests) {
    for_pieces(operation.output, [&](void* address, int count) {
      mpi_check(
          MPI_Irecv(address, count, type, operation.peer, operation.tag, comm, &next(requests)),
          "MPI_Irecv");
    });
  };
  // A message that is too long is MPI's error; one that is too short is not.
  task.finish = [=](const std::vector<MPI_Status>& statuses) {
    int64_t received = 0;
    for (const auto& status : statuses) {
      int count = 0;
      mpi_check(MPI_Get_count(&status, type, &count), "MPI_Get_count");
      received += count;
    }
    if (received == operation.output.numel()) return;
    throw CommError(detail::join("got ", received, " elements, wanted ", operation.signature()));
  };
}

void set_barrier(MpiTask& task, const Operation&, MPI_Comm comm) {
  task.start = [=](Requests& requests) {
    mpi_check(MPI_Ibarrier(comm, &next(requests)), "MPI_Ibarrier");
  };
}

void set_calls(MpiTask& task, const Operation& operation, MPI_Comm comm) {
  switch (operation.kind) {
    case OperationKind::allreduce:
      return set_allreduce(task, operation, comm);
    case OperationKind::reduce_scatter:
      return set_reduce_scatter(task, operation, comm);
    case OperationKind::all_gather:
      return set_all_gather(task, operation, comm);
    case OperationKind::all_to_all:
      return set_all_to_all(task, operation, comm);
    case OperationKind::broadcast:
      return set_broadcast(task, operation, comm);
    case OperationKind::send:
      return set_send(task, operation, comm);
    case OperationKind::receive:
      return set_receive(task, operation, comm);
    case OperationKind::barrier:
      return set_barrier(task, operation, comm);
  }
}

bool goes_in_pieces(OperationKind kind) {
  return kind != OperationKind::reduce_scatter && kind != OperationKind::all_gather &&
         kind != OperationKind::all_to_all;
}

}  // namespace

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

void check_counts(const Operation& operation, int size) {
  if (goes_in_pieces(operation.kind)) return;
  constexpr int64_t kLimit = std::numeric_limits<int>::max();
  const auto longest = std::max(operation.input.numel(), operation.output.numel());
  ISOBAR_CHECK(longest <= kLimit, to_string(operation.kind), ": ", longest, " elements over ", size,
               " ranks, but MPI counts to ", kLimit, "; issue it in several parts");
}

std::shared_ptr<MpiTask> make_task(Operation operation, std::shared_ptr<MPI_Comm> comm, int rank,
                                   int size, std::shared_ptr<FirstCause> cause) {
  auto task = std::make_shared<MpiTask>();
  set_calls(*task, operation, *comm);
  task->comm = std::move(comm);
  task->cause = std::move(cause);
  task->place = place(operation, rank, size);
  task->deadline = std::chrono::steady_clock::now() + operation.timeout;
  task->too_late = [operation = std::move(operation), rank, size] {
    return timed_out(operation, rank, size);
  };
  return task;
}

}  // namespace isobar
