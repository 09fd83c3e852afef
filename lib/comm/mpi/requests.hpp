// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "comm/mpi/pace.hpp"

namespace isobar {

class MpiTask;

/// The MPI requests of all tasks in flight, tested together. Used by the progress
/// thread alone.
class MpiRequests {
 public:
  struct Ended {
    MpiTask* task = nullptr;
    int64_t token = 0;
    MPI_Status status{};
    /// An MPI error code.
    int error = MPI_SUCCESS;
  };

  void add(MpiTask& task, int64_t token, MPI_Request request, MpiLoad load = {});

  /// What moves under all of them.
  MpiLoad load() const { return load_; }

  /// Tests all of them once; the answer is valid until the next call. Drives MPI.
  const std::vector<Ended>& test();

  /// Forgets the requests of a task that has failed. MPI may still carry them out.
  void forget(const MpiTask& task);

 private:
  struct Owner {
    MpiTask* task;
    int64_t token;
    MpiLoad load;
  };

  void remove(int index);

  std::vector<MPI_Request> requests_;
  std::vector<Owner> owners_;
  MpiLoad load_;
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
  std::vector<Ended> ended_;
};

}  // namespace isobar
