// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/mpi/pace.hpp"

namespace isobar {

class MpiRequests;

/// One thing that the progress thread does: started once, then told of each of its
/// requests that completes, when it may make further ones.
class MpiTask {
 public:
  virtual ~MpiTask() = default;

  /// False while it has to wait for earlier tasks.
  virtual bool may_start() const { return true; }

  /// Makes MPI calls and adds their requests. May throw.
  virtual void start(MpiRequests& requests) = 0;

  /// The request that was added with `token` is complete. May throw.
  virtual void advance(MpiRequests& requests, int64_t token, const MPI_Status& status) = 0;

  virtual bool finished() const = 0;
};

/// Calls of the MPI library's own that end together.
class MpiCalls : public MpiTask {
 public:
  /// Makes the calls and adds their requests.
  using Start = std::function<void(std::vector<MPI_Request>& requests)>;
  /// Runs once all are complete; may be empty.
  using Finish = std::function<void(const std::vector<MPI_Status>& statuses)>;

  /// `load` is what each request carries.
  MpiCalls(Start start, Finish finish, const MpiLoad& load = {});

  void start(MpiRequests& requests) override;
  void advance(MpiRequests& requests, int64_t token, const MPI_Status& status) override;
  bool finished() const override { return finished_; }

 private:
  void finish_if_all();

  Start start_;
  Finish finish_;
  MpiLoad load_;
  std::vector<MPI_Status> statuses_;
  size_t complete_ = 0;
  bool finished_ = false;
};

}  // namespace isobar
