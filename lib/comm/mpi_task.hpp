// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <mpi.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/first_cause.hpp"

namespace isobar {

/// One thing that the progress thread does: started once, then tested until all
/// its requests are complete.
struct MpiTask {
  /// Makes the MPI calls and adds their requests. May throw.
  std::function<void(std::vector<MPI_Request>& requests)> start;
  /// Runs once the requests are complete; may be empty. May throw.
  std::function<void(const std::vector<MPI_Status>& statuses)> finish;

  /// "allreduce #41 on rank 3 of 8", and the message once the time is over.
  std::string place;
  std::function<std::string()> too_late;
  std::shared_ptr<FirstCause> cause;
  std::chrono::steady_clock::time_point deadline;

  /// Keeps the communicator from being freed: Open MPI's collectives crash where
  /// that happens before they are complete.
  std::shared_ptr<MPI_Comm> comm;

  /// The progress thread's own.
  std::vector<MPI_Request> requests;

  /// Guarded by the runtime's mutex: it ended well.
  bool done = false;
};

/// Throws UsageError where MPI's int counts cannot express `operation`.
void check_counts(const Operation& operation, int size);

/// What carries `operation` out on `comm`. Its tensors live as long as the task.
std::shared_ptr<MpiTask> make_task(Operation operation, std::shared_ptr<MPI_Comm> comm, int rank,
                                   int size, std::shared_ptr<FirstCause> cause);

/// `total` elements as consecutive (offset, count) of at most `largest`; one
/// piece of zero elements where there are none.
std::vector<std::pair<int64_t, int>> pieces(int64_t total, int largest);

}  // namespace isobar
