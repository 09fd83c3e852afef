// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/work.hpp>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "comm/backend/completion.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/backend/fork.hpp"
#include "comm/mpi/pace.hpp"
#include "comm/mpi/requests.hpp"
#include "comm/mpi/task.hpp"

namespace isobar {

class MpiRuntime;

/// The communicators that fail together, seen by the runtime: its thread is woken when
/// their world has failed.
class MpiFamily {
 public:
  MpiFamily(MpiRuntime& runtime, std::shared_ptr<FirstCause> cause);
  ~MpiFamily();
  MpiFamily(const MpiFamily&) = delete;
  MpiFamily& operator=(const MpiFamily&) = delete;

  const std::shared_ptr<FirstCause>& cause() const { return cause_; }

 private:
  std::shared_ptr<FirstCause> cause_;
  int subscription_;
};

/// The one thread of a process that makes its MPI calls, from MPI_Init_thread to
/// MPI_Finalize; only MPI_Comm_split, which blocks, has a thread of its own.
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

  /// Carries `task` out and ends `completion`, which it returns. Never blocks.
  Work launch(std::shared_ptr<MpiTask> task, std::shared_ptr<Completion> completion,
              std::shared_ptr<MpiFamily> family);

  /// Counts the communicators: MPI is finalised at the end of the program if all
  /// of them are gone and none has failed.
  void attach();
  void detach();

  /// Frees `comm` on the progress thread when the last reference goes, unless it
  /// failed: operations may still be in flight then.
  std::shared_ptr<MPI_Comm> own(MPI_Comm comm, std::shared_ptr<MpiFamily> family);

  /// Throws UsageError where the program has finalised MPI under the communicators' feet.
  void check_not_finalised(const Operation& operation, int rank, int size) const;

  /// Other threads may call MPI too.
  bool is_concurrent() const { return thread_level_ == MPI_THREAD_MULTIPLE; }

 private:
  friend class MpiFamily;
  struct AtExit;

  /// A task and those who wait for it. Never dropped under the mutex: the last one may take its
  /// family along, whose end waits for who wakes this runtime.
  struct Flight {
    std::shared_ptr<MpiTask> task;
    std::shared_ptr<Completion> completion;
    std::shared_ptr<MpiFamily> family;
    bool started = false;
    bool broken = false;
  };

  MpiRuntime() = default;
  void wait_ready(std::chrono::milliseconds timeout);
  void wake_failed();
  void close();

  // On the progress thread.
  void run();
  void initialise();
  void progress();
  bool take_new();
  bool poll();
  void give_up();
  bool start_waiting();
  bool advance(const MpiRequests::Ended& ended);
  bool leaves(Flight& flight);
  void suspect(Flight& flight, const std::string& message);
  void end(Flight& flight);
  void abandon(Flight& flight);
  void uncount(const Flight& flight);
  void nap();
  void finalise();

  HomeProcess home_;
  std::mutex mutex_;
  std::condition_variable new_tasks_;
  std::condition_variable ended_;
  // Guarded by the mutex.
  std::deque<Flight> queue_;
  /// Tasks launched and not yet ended, but for the frees.
  int pending_ = 0;
  int communicators_ = 0;
  /// Communicators to be freed.
  int frees_ = 0;
  bool ready_ = false;
  bool healthy_ = true;
  bool program_ends_ = false;
  bool stop_ = false;
  bool stopped_ = false;
  std::exception_ptr error_;

  // The progress thread's own; the level is fixed before anyone can ask.
  bool owns_mpi_ = false;
  int thread_level_ = MPI_THREAD_SINGLE;
  MpiRequests requests_;
  std::deque<Flight> flying_;
  MpiPace pace_;

  std::thread thread_;
};

}  // namespace isobar
