// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_runtime.hpp"

#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>

#include <utility>

#include "comm/backend.hpp"
#include "comm/mpi_call.hpp"

namespace isobar {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

/// Where each rank has a core to spare, an answer is looked for this long without
/// a pause; sharing cores, that would be taken from the ranks that compute.
constexpr auto kSpin = 20us;
/// Pauses between looks: short ones while an answer is near, then long ones.
constexpr auto kShortNap = 50us;
constexpr auto kLongNap = 100us;
constexpr auto kNear = 2ms;
/// How long the end of a failed program waits for the thread to leave MPI.
constexpr auto kPatience = 1s;

bool has_cores_to_spare() {
  const auto ranks = static_cast<unsigned>(read_launch_environment().local_size);
  return std::thread::hardware_concurrency() > 2 * ranks;
}

/// MPI allows this one call on any thread and at any time.
bool is_finalised() {
  int finalised = 0;
  mpi_check(MPI_Finalized(&finalised), "MPI_Finalized");
  return finalised != 0;
}

}  // namespace

/// The handle of a task.
class MpiWork final : public WorkState {
 public:
  MpiWork(MpiRuntime& runtime, std::shared_ptr<MpiTask> task)
      : runtime_(runtime), task_(std::move(task)) {}

  bool is_completed() const override {
    const std::lock_guard lock(runtime_.mutex_);
    return task_->done || task_->cause->failed();
  }

  void wait() override {
    std::unique_lock lock(runtime_.mutex_);
    runtime_.ended_.wait_until(lock, task_->deadline,
                               [&] { return task_->done || task_->cause->failed(); });
    if (task_->done) return;
    // The progress thread looks at the clock too, but it may be held up inside MPI.
    const auto message = task_->too_late();
    lock.unlock();
    runtime_.fail(*task_->cause, message);
    task_->cause->check();
  }

  void synchronize() override { wait(); }

 private:
  MpiRuntime& runtime_;
  std::shared_ptr<MpiTask> task_;
};

/// Ends the runtime when the program ends. The runtime itself is never destroyed:
/// communicators in static storage may outlive this object.
struct MpiRuntime::AtExit {
  MpiRuntime& runtime;

  ~AtExit() {
    {
      const std::lock_guard lock(runtime.mutex_);
      runtime.program_ends_ = true;
      if (runtime.communicators_ > 0) return;
    }
    runtime.close();
  }
};

MpiRuntime& MpiRuntime::get(std::chrono::milliseconds timeout) {
  static MpiRuntime& runtime = *new MpiRuntime;
  static const AtExit at_exit{runtime};
  runtime.wait_ready(timeout);
  return runtime;
}

void MpiRuntime::wait_ready(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  ISOBAR_CHECK(!stop_,
               "backend mpi: MPI is finalised at the end of the program; make the "
               "communicator before");
  ISOBAR_CHECK(!is_finalised(),
               "backend mpi: MPI was finalised, and it starts only once a process");
  if (!thread_.joinable()) thread_ = std::thread(&MpiRuntime::run, this);
  if (!ended_.wait_for(lock, timeout, [&] { return ready_ || error_; })) {
    healthy_ = false;
    throw CommError(detail::join("MPI_Init_thread: no answer in ", in_words(timeout),
                                 "; has every launched rank called make_mpi_communicator?"));
  }
  if (error_) std::rethrow_exception(error_);
}

Work MpiRuntime::launch(std::shared_ptr<MpiTask> task) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(task);
    ++pending_;
  }
  new_tasks_.notify_one();
  return Work(std::make_shared<MpiWork>(*this, std::move(task)));
}

void MpiRuntime::attach() {
  const std::lock_guard lock(mutex_);
  ++communicators_;
}

void MpiRuntime::detach() {
  bool last_after_end = false;
  {
    std::unique_lock lock(mutex_);
    last_after_end = --communicators_ == 0 && program_ends_;
    // Who initialised MPI may finalise it as soon as the communicators are gone.
    if (!owns_mpi_) ended_.wait_for(lock, kPatience, [&] { return pending_ == 0; });
  }
  if (last_after_end) close();
}

std::shared_ptr<MPI_Comm> MpiRuntime::own(MPI_Comm comm, std::shared_ptr<FirstCause> cause) {
  return {new MPI_Comm(comm), [this, cause = std::move(cause)](MPI_Comm* owned) {
            if (!cause->failed()) free(*owned, cause);
            delete owned;
          }};
}

void MpiRuntime::free(MPI_Comm comm, const std::shared_ptr<FirstCause>& cause) {
  // Collective by the standard, local in Open MPI and MPICH: nobody waits for it.
  auto task = std::make_shared<MpiTask>();
  task->start = [comm](auto&) mutable { mpi_check(MPI_Comm_free(&comm), "MPI_Comm_free"); };
  task->place = "MPI_Comm_free";
  task->cause = cause;
  task->deadline = steady_clock::time_point::max();
  launch(std::move(task));
}

void MpiRuntime::fail(FirstCause& cause, const std::string& message) {
  const std::lock_guard lock(mutex_);
  cause.record(message);
  healthy_ = false;
  ended_.notify_all();
}

void MpiRuntime::close() {
  std::unique_lock lock(mutex_);
  if (stop_ || !thread_.joinable()) return;
  stop_ = true;
  new_tasks_.notify_one();
  // MPI_Finalize waits for slower ranks and may take long; a thread that a lost peer holds up
  // inside MPI is left there.
  ended_.wait_for(lock, kPatience, [&] { return stopped_ || healthy_; });
  const bool held_up = !stopped_ && !healthy_;
  lock.unlock();
  held_up ? thread_.detach() : thread_.join();
}

void MpiRuntime::run() {
  try {
    initialise();
    {
      const std::lock_guard lock(mutex_);
      ready_ = true;
    }
    ended_.notify_all();
    progress();
    finalise();
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (!ready_) error_ = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  ended_.notify_all();
}

void MpiRuntime::initialise() {
  spins_ = has_cores_to_spare();
  int initialised = 0;
  int level = MPI_THREAD_SINGLE;
  mpi_check(MPI_Initialized(&initialised), "MPI_Initialized");
  if (!initialised) {
    // This thread alone calls MPI for isobar, but libraries beside it (Atlas) call it from theirs.
    mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread");
    owns_mpi_ = true;
    return;
  }
  mpi_check(MPI_Query_thread(&level), "MPI_Query_thread");
  ISOBAR_CHECK(level >= MPI_THREAD_SERIALIZED, "backend mpi: MPI was initialised at thread level ",
               level, ", wanted MPI_THREAD_MULTIPLE (", MPI_THREAD_MULTIPLE,
               ") or at least MPI_THREAD_SERIALIZED (", MPI_THREAD_SERIALIZED,
               "); call MPI_Init_thread with it, or let isobar start MPI");
}

void MpiRuntime::progress() {
  while (take_new()) nap(poll());
}

/// Waits for tasks while none is in flight, and starts the new ones; false at the end.
bool MpiRuntime::take_new() {
  std::deque<std::shared_ptr<MpiTask>> tasks;
  {
    std::unique_lock lock(mutex_);
    if (flying_.empty()) new_tasks_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_ && queue_.empty() && flying_.empty()) return false;
    tasks.swap(queue_);
  }
  for (const auto& task : tasks) start(task);
  if (!tasks.empty()) last_moved_ = steady_clock::now();
  return true;
}

void MpiRuntime::start(const std::shared_ptr<MpiTask>& task) {
  try {
    task->cause->check();
    task->start(task->requests);
  } catch (const std::exception& error) {
    fail(*task->cause, detail::join(task->place, ": ", error.what()));
  }
  flying_.push_back(task);
}

/// True once the task is no longer in flight.
bool MpiRuntime::test(const std::shared_ptr<MpiTask>& task) {
  if (task->cause->failed()) {
    abandoned_.push_back(task);
    const std::lock_guard lock(mutex_);
    --pending_;
    return true;
  }
  try {
    int complete = 0;
    std::vector<MPI_Status> statuses(task->requests.size());
    mpi_check_all(MPI_Testall(static_cast<int>(task->requests.size()), task->requests.data(),
                              &complete, statuses.data()),
                  statuses, "MPI_Testall");
    if (!complete) {
      if (steady_clock::now() > task->deadline) fail(*task->cause, task->too_late());
      return false;
    }
    if (task->finish) task->finish(statuses);
  } catch (const std::exception& error) {
    fail(*task->cause, detail::join(task->place, ": ", error.what()));
    return false;
  }
  end(*task);
  return true;
}

void MpiRuntime::end(MpiTask& task) {
  // What the closures hold, the tensors among it, goes once the lock is free again.
  std::function<void(std::vector<MPI_Request>&)> start;
  std::function<void(const std::vector<MPI_Status>&)> finish;
  std::function<std::string()> too_late;
  std::shared_ptr<MPI_Comm> comm;
  const std::lock_guard lock(mutex_);
  start.swap(task.start);
  finish.swap(task.finish);
  too_late.swap(task.too_late);
  comm.swap(task.comm);
  --pending_;
  task.done = true;
  ended_.notify_all();
}

bool MpiRuntime::poll() {
  const auto before = flying_.size();
  std::erase_if(flying_, [&](const auto& task) { return test(task); });
  return flying_.size() < before;
}

void MpiRuntime::nap(bool moved) {
  const auto now = steady_clock::now();
  if (moved) last_moved_ = now;
  if (moved || flying_.empty()) return;
  const auto idle = now - last_moved_;
  if (idle < kSpin && spins_) return;
  std::unique_lock lock(mutex_);
  new_tasks_.wait_for(lock, idle < kNear ? kShortNap : kLongNap, [&] { return !queue_.empty(); });
}

void MpiRuntime::finalise() {
  {
    const std::lock_guard lock(mutex_);
    if (!healthy_ || communicators_ > 0) return;  // MPI_Finalize would wait for the lost peer
  }
  if (!owns_mpi_) return;
  if (!is_finalised()) mpi_check(MPI_Finalize(), "MPI_Finalize");
}

}  // namespace isobar
