// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/work.hpp>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/mpi_task.hpp"

namespace isobar {

/// The one thread of a process that makes its MPI calls, from MPI_Init_thread to
/// MPI_Finalize.
///
/// It is process-wide because MPI is: it is initialised once, finalised once and
/// never again. Nothing else here is: worlds are duplicates of MPI_COMM_WORLD, and
/// any number of them may live beside each other.
///
/// Tasks start in the order of launch(), and any number of them is in flight; the
/// thread sleeps while there is none.
class MpiRuntime {
 public:
  /// Starts the thread at the first call. Throws CommError where MPI_Init_thread
  /// takes longer than `timeout`, and UsageError where MPI cannot be used.
  static MpiRuntime& get(std::chrono::milliseconds timeout);

  /// Never blocks. The Work throws the family's first cause.
  Work launch(std::shared_ptr<MpiTask> task);

  /// Counts the communicators: MPI is finalised at the end of the program if all
  /// of them are gone and none has failed.
  void attach();
  void detach();

  /// Frees `comm` on the progress thread when the last reference goes, unless it
  /// failed: operations may still be in flight then.
  std::shared_ptr<MPI_Comm> own(MPI_Comm comm, std::shared_ptr<FirstCause> cause);

 private:
  friend class MpiWork;
  struct AtExit;

  MpiRuntime() = default;
  void wait_ready(std::chrono::milliseconds timeout);
  void fail(FirstCause& cause, const std::string& message);
  void free(MPI_Comm comm, const std::shared_ptr<FirstCause>& cause);
  void close();

  // On the progress thread.
  void run();
  void initialise();
  void progress();
  bool take_new();
  void start(const std::shared_ptr<MpiTask>& task);
  bool test(const std::shared_ptr<MpiTask>& task);
  void end(MpiTask& task);
  bool poll();
  void nap(bool moved);
  void finalise();

  std::mutex mutex_;
  std::condition_variable new_tasks_;
  std::condition_variable ended_;
  // Guarded by the mutex.
  std::deque<std::shared_ptr<MpiTask>> queue_;
  /// Tasks launched and not yet ended.
  int pending_ = 0;
  int communicators_ = 0;
  bool ready_ = false;
  bool healthy_ = true;
  bool program_ends_ = false;
  bool stop_ = false;
  bool stopped_ = false;
  std::exception_ptr error_;

  // The progress thread's own.
  bool owns_mpi_ = false;
  bool spins_ = false;
  std::vector<std::shared_ptr<MpiTask>> flying_;
  /// Operations of failed communicators: MPI may write to their tensors until the
  /// process ends, so they are kept.
  std::vector<std::shared_ptr<MpiTask>> abandoned_;
  std::chrono::steady_clock::time_point last_moved_;

  std::thread thread_;
};

}  // namespace isobar
