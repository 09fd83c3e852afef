// SPDX-License-Identifier: Apache-2.0
// Callers only queue and wait; everything that calls MPI runs on the progress thread. The mutex
// guards the queue and the counts, never a call of MPI's, and it is not held while a cause is told
// anything: that calls back into wake_failed(), which takes it. Nor is a flight dropped under it,
// for the last one ends its family, which waits for such a call to be over. Whatever has failed is
// kept to the end of the program, since MPI may still write to it.
#include "comm/mpi/runtime.hpp"

#include <isobar/core/error.hpp>
#include <unistd.h>

#include <utility>

#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/backend/short_slices.hpp"
#include "comm/mpi/call.hpp"

namespace isobar {
namespace {

using namespace std::chrono_literals;

/// How long the end of a failed program waits for the thread to leave MPI.
constexpr auto kLeaveLimit = 1s;

/// MPI allows this one call on any thread and at any time.
bool is_finalised() {
  int finalised = 0;
  mpi_check(MPI_Finalized(&finalised), "MPI_Finalized");
  return finalised != 0;
}

/// Collective by the standard, local in Open MPI and MPICH. A program that has finalised MPI has
/// freed everything.
class FreeTask final : public MpiCalls {
 public:
  explicit FreeTask(MPI_Comm comm)
      : MpiCalls(
            [comm](auto&) mutable {
              if (!is_finalised()) mpi_check(MPI_Comm_free(&comm), "MPI_Comm_free");
            },
            {}) {}
};

bool is_free(const MpiTask& task) { return dynamic_cast<const FreeTask*>(&task) != nullptr; }

}  // namespace

MpiFamily::MpiFamily(MpiRuntime& runtime, std::shared_ptr<FirstCause> cause)
    : cause_(std::move(cause)),
      subscription_(cause_->subscribe([&runtime] { runtime.wake_failed(); })) {}

MpiFamily::~MpiFamily() { cause_->unsubscribe(subscription_); }

/// Ends the runtime when the program ends. The runtime itself is never destroyed:
/// communicators in static storage may outlive this object.
struct MpiRuntime::AtExit {
  MpiRuntime& runtime;

  ~AtExit() {
    if (!runtime.home_.is_here()) return;  // a forked child has no progress thread
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
  ISOBAR_CHECK(home_.is_here(), "backend mpi: process ", getpid(), " is a fork of process ",
               home_.pid(), ", which has MPI; start a program of its own that uses it");
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

Work MpiRuntime::launch(std::shared_ptr<MpiTask> task, std::shared_ptr<Completion> completion,
                        std::shared_ptr<MpiFamily> family) {
  {
    const std::lock_guard lock(mutex_);
    ++(is_free(*task) ? frees_ : pending_);
    queue_.push_back({std::move(task), completion, std::move(family)});
  }
  new_tasks_.notify_one();
  return Work(std::move(completion));
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
    // Who initialised MPI may finalise it as soon as the communicators are gone; some programs do
    // although it was isobar.
    ended_.wait_for(lock, kLeaveLimit,
                    [&] { return !healthy_ || (frees_ == 0 && (owns_mpi_ || pending_ == 0)); });
  }
  if (last_after_end) close();
}

std::shared_ptr<MPI_Comm> MpiRuntime::own(MPI_Comm comm, std::shared_ptr<MpiFamily> family) {
  return {new MPI_Comm(comm), [this, family = std::move(family)](MPI_Comm* owned) {
            constexpr std::chrono::hours kNoLimit{1000};
            if (!family->cause()->failed()) {
              launch(std::make_shared<FreeTask>(*owned),
                     std::make_shared<Completion>("MPI_Comm_free", kNoLimit, family->cause()),
                     family);
            }
            delete owned;
          }};
}

void MpiRuntime::check_not_finalised(const Operation& operation, int rank, int size) const {
  ISOBAR_CHECK(!is_finalised(), full_name(operation, rank, size),
               ": the program has called MPI_Finalize; destroy the communicators before");
}

void MpiRuntime::wake_failed() {
  {
    const std::lock_guard lock(mutex_);
    healthy_ = false;
  }
  ended_.notify_all();
  new_tasks_.notify_one();
}

void MpiRuntime::close() {
  std::unique_lock lock(mutex_);
  if (stop_ || !thread_.joinable()) return;
  stop_ = true;
  new_tasks_.notify_one();
  // MPI_Finalize waits for slower ranks and may take long; a thread that a lost peer holds up
  // inside MPI is left there.
  ended_.wait_for(lock, kLeaveLimit, [&] { return stopped_ || healthy_; });
  const bool held_up = !stopped_ && !healthy_;
  lock.unlock();
  held_up ? thread_.detach() : thread_.join();
}

void MpiRuntime::run() {
  const ShortSlices slices;
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
  pace_.begin();
  int initialised = 0;
  mpi_check(MPI_Initialized(&initialised), "MPI_Initialized");
  if (!initialised) {
    // Splits, and libraries beside isobar (Atlas), call MPI from threads of theirs.
    mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &thread_level_),
              "MPI_Init_thread");
    owns_mpi_ = true;
    // Errors that belong to no communicator go here, and would end the process.
    mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler");
    return;
  }
  mpi_check(MPI_Query_thread(&thread_level_), "MPI_Query_thread");
  ISOBAR_CHECK(thread_level_ >= MPI_THREAD_SERIALIZED,
               "backend mpi: MPI was initialised at thread level ", thread_level_,
               ", wanted MPI_THREAD_MULTIPLE (", MPI_THREAD_MULTIPLE,
               ") or at least MPI_THREAD_SERIALIZED (", MPI_THREAD_SERIALIZED,
               "); call MPI_Init_thread with it, or let isobar start MPI");
}

void MpiRuntime::progress() {
  while (take_new()) {
    if (poll()) pace_.moved();
    if (!flying_.empty()) nap();
  }
}

/// Waits for tasks while none is in flight; false at the end. Tasks fly in the order of launch(),
/// which is the order of collectives on each communicator: MPI matches them by it.
bool MpiRuntime::take_new() {
  std::unique_lock lock(mutex_);
  if (flying_.empty()) {
    new_tasks_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    pace_.restart();
  }
  if (stop_ && queue_.empty() && flying_.empty()) return false;
  for (; !queue_.empty(); queue_.pop_front()) flying_.push_back(std::move(queue_.front()));
  return true;
}

/// True if anything has happened.
bool MpiRuntime::poll() {
  const bool may_call = !is_finalised();
  if (!may_call) give_up();
  bool moved = start_waiting();
  if (may_call) {
    for (const auto& ended : requests_.test()) moved |= advance(ended);
  }
  const auto before = flying_.size();
  std::erase_if(flying_, [&](Flight& flight) { return leaves(flight); });
  return moved || flying_.size() < before;
}

/// The program has finalised MPI while operations were in flight: no call is allowed any more.
void MpiRuntime::give_up() {
  for (auto& flight : flying_) {
    if (is_free(*flight.task) || flight.broken) continue;
    flight.started = flight.broken = true;
    suspect(flight,
            flight.completion->full_name() + ": the program has called MPI_Finalize meanwhile");
  }
}

bool MpiRuntime::start_waiting() {
  bool moved = false;
  for (auto& flight : flying_) {
    if (flight.started || !flight.task->may_start()) continue;
    flight.started = moved = true;
    try {
      flight.family->cause()->check();
      flight.task->start(requests_);
    } catch (const std::exception& error) {
      flight.broken = true;
      suspect(flight, detail::join(flight.completion->full_name(), ": ", error.what()));
    }
  }
  return moved;
}

bool MpiRuntime::advance(const MpiRequests::Ended& ended) {
  try {
    mpi_check(ended.error, "MPI");
    ended.task->advance(requests_, ended.token, ended.status);
  } catch (const std::exception& error) {
    for (auto& flight : flying_) {
      if (flight.task.get() != ended.task || flight.broken) continue;
      flight.broken = true;
      suspect(flight, detail::join(flight.completion->full_name(), ": ", error.what()));
    }
  }
  return true;
}

/// True if it is no longer in flight.
bool MpiRuntime::leaves(Flight& flight) {
  if (flight.broken || flight.family->cause()->failed()) {
    abandon(flight);
    return true;
  }
  if (flight.started && flight.task->finished()) {
    end(flight);
    return true;
  }
  if (flight.completion->is_late()) suspect(flight, flight.completion->too_late());
  return false;
}

/// Who waits for it hears the verdict; the thread itself goes on.
void MpiRuntime::suspect(Flight& flight, const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    healthy_ = false;
  }
  flight.completion->fail(message);
  ended_.notify_all();
}

void MpiRuntime::end(Flight& flight) {
  flight.completion->complete();
  const std::lock_guard lock(mutex_);
  uncount(flight);
}

void MpiRuntime::abandon(Flight& flight) {
  requests_.forget(*flight.task);
  // MPI may write to the tensors of what has failed until the process ends.
  keep_to_the_end(std::make_shared<Flight>(flight));
  const std::lock_guard lock(mutex_);
  uncount(flight);
}

/// However it ended: who waits for the frees must not wait for one that was given up. Under the
/// mutex.
void MpiRuntime::uncount(const Flight& flight) {
  --(is_free(*flight.task) ? frees_ : pending_);
  ended_.notify_all();
}

void MpiRuntime::nap() {
  const auto time = pace_.nap(requests_.load());
  if (time.count() == 0) return std::this_thread::yield();
  std::unique_lock lock(mutex_);
  new_tasks_.wait_for(lock, time, [&] { return !queue_.empty(); });
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
