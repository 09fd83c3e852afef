// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>

#include <utility>

#include "comm/backend.hpp"
#include "comm/mpi_call.hpp"
#include "comm/mpi_runtime.hpp"

namespace isobar {
namespace {

/// A communicator of MPI's and this rank's place in it, made on the progress thread.
struct Handle {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;

  void describe() {
    if (comm == MPI_COMM_NULL) return;
    mpi_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    mpi_check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
    mpi_check(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  }
};

std::shared_ptr<MpiTask> make_plain_task(const std::string& place,
                                         std::shared_ptr<FirstCause> cause,
                                         std::chrono::milliseconds timeout) {
  auto task = std::make_shared<MpiTask>();
  task->place = place;
  task->too_late = [place, timeout] { return place + ": no answer in " + in_words(timeout); };
  task->cause = std::move(cause);
  task->deadline = std::chrono::steady_clock::now() + timeout;
  return task;
}

/// A copy of MPI_COMM_WORLD, so that no other library's messages meet ours.
Handle duplicate_world(MpiRuntime& runtime, const std::shared_ptr<FirstCause>& cause,
                       std::chrono::milliseconds timeout) {
  const auto handle = std::make_shared<Handle>();
  auto task = make_plain_task("make_mpi_communicator", cause, timeout);
  task->start = [handle](auto& requests) {
    mpi_check(MPI_Comm_idup(MPI_COMM_WORLD, &handle->comm, &requests.emplace_back()),
              "MPI_Comm_idup");
  };
  task->finish = [handle](const auto&) { handle->describe(); };
  runtime.launch(std::move(task)).synchronize();
  return *handle;
}

/// MPI has no non-blocking split, and this one holds up the progress thread; so the ranks have met
/// before.
Handle split_handle(MpiRuntime& runtime, MPI_Comm parent, int color, int key,
                    const std::shared_ptr<FirstCause>& cause, std::chrono::milliseconds timeout) {
  const auto handle = std::make_shared<Handle>();
  auto task = make_plain_task("split", cause, timeout);
  task->start = [=](auto&) {
    mpi_check(MPI_Comm_split(parent, color < 0 ? MPI_UNDEFINED : color, key, &handle->comm),
              "MPI_Comm_split");
    handle->describe();
  };
  runtime.launch(std::move(task)).synchronize();
  return *handle;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MpiRuntime& runtime, const Handle& handle, std::chrono::milliseconds timeout,
                  std::shared_ptr<FirstCause> cause)
      : Communicator(handle.rank, handle.size, timeout, std::move(cause)),
        runtime_(runtime),
        comm_(runtime.own(handle.comm, first_cause())) {
    runtime_.attach();
  }

  ~MpiCommunicator() override {
    comm_.reset();
    runtime_.detach();
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_on_cpu(operation, backend());
    check_counts(operation, size());
    return runtime_.launch(make_task(std::move(operation), comm_, rank(), size(), first_cause()));
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    agree_on_split(*this, color, key);
    const auto handle = split_handle(runtime_, *comm_, color, key, first_cause(), timeout());
    if (handle.comm == MPI_COMM_NULL) return nullptr;
    return std::make_unique<MpiCommunicator>(runtime_, handle, timeout(), first_cause());
  }

  std::string_view do_backend() const noexcept override { return "mpi"; }

  MpiRuntime& runtime_;
  std::shared_ptr<MPI_Comm> comm_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(std::chrono::milliseconds timeout) {
  ISOBAR_CHECK(timeout.count() > 0, "make_mpi_communicator: the time limit must be positive, got ",
               timeout.count(), " ms");
  auto& runtime = MpiRuntime::get(timeout);
  const auto cause = std::make_shared<FirstCause>();
  const auto handle = duplicate_world(runtime, cause, timeout);
  return std::make_unique<MpiCommunicator>(runtime, handle, timeout, cause);
}

}  // namespace isobar
