// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/runtime.hpp"

#include <isobar/core/error.hpp>
#include <unistd.h>

#include <functional>
#include <utility>

#include "comm/backend.hpp"
#include "comm/mpi/call.hpp"
#include "comm/short_slices.hpp"

namespace isobar {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

/// How long the end of a failed program waits for the thread to leave MPI.
constexpr auto kPatience = 1s;

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
  FreeTask(MPI_Comm comm, std::function<void()> freed)
      : MpiCalls(
            [comm, freed = std::move(freed)](auto&) mutable {
              if (!is_finalised()) mpi_check(MPI_Comm_free(&comm), "MPI_Comm_free");
              freed();
            },
            {}) {}

  std::string place() const override { return "MPI_Comm_free"; }
  std::string too_late() const override { return place() + ": no answer"; }
};

}  // namespace

MpiFamily::MpiFamily(MpiRuntime& runtime, std::shared_ptr<FirstCause> cause)
    : cause_(std::move(cause)),
      subscription_(cause_->subscribe([&runtime] { runtime.wake_failed(); })) {}

MpiFamily::~MpiFamily() { cause_->unsubscribe(subscription_); }

/// The handle of a task.
class MpiWork final : public WorkState {
 public:
  MpiWork(MpiRuntime& runtime, std::shared_ptr<MpiRuntime::Ticket> ticket)
      : runtime_(runtime), ticket_(std::move(ticket)) {}

  bool is_completed() const override {
    const std::lock_guard lock(runtime_.mutex_);
    return ticket_->done || cause().failed();
  }

  void wait() override {
    std::unique_lock lock(runtime_.mutex_);
    runtime_.ended_.wait_until(lock, ticket_->deadline, [&] {
      return ticket_->done || cause().failed() || !ticket_->complaint.empty();
    });
    if (ticket_->done) return;
    // The progress thread looks at the clock too, but it may be held up inside MPI.
    auto complaint = ticket_->complaint;
    if (complaint.empty() && ticket_->task) complaint = ticket_->task->too_late();
    lock.unlock();
    cause().check();
    cause().fail(complaint);
  }

  void synchronize() override { wait(); }

 private:
  FirstCause& cause() const { return *ticket_->family->cause(); }

  MpiRuntime& runtime_;
  std::shared_ptr<MpiRuntime::Ticket> ticket_;
};

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

Work MpiRuntime::launch(std::shared_ptr<MpiTask> task, std::shared_ptr<MpiFamily> family,
                        std::chrono::milliseconds timeout) {
  auto ticket = std::make_shared<Ticket>();
  ticket->family = std::move(family);
  ticket->deadline = steady_clock::now() + timeout;
  ticket->task = task;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(task), ticket});
    ++pending_;
  }
  new_tasks_.notify_one();
  return Work(std::make_shared<MpiWork>(*this, std::move(ticket)));
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
    ended_.wait_for(lock, kPatience,
                    [&] { return !healthy_ || (frees_ == 0 && (owns_mpi_ || pending_ == 0)); });
  }
  if (last_after_end) close();
}

std::shared_ptr<MPI_Comm> MpiRuntime::own(MPI_Comm comm, std::shared_ptr<MpiFamily> family) {
  return {new MPI_Comm(comm), [this, family = std::move(family)](MPI_Comm* owned) {
            constexpr std::chrono::hours kNoLimit{1000};
            if (!family->cause()->failed()) {
              launch(std::make_shared<FreeTask>(*owned, count_free()), family, kNoLimit);
            }
            delete owned;
          }};
}

/// What is to be called once a communicator is freed.
std::function<void()> MpiRuntime::count_free() {
  const std::lock_guard lock(mutex_);
  ++frees_;
  return [this] {
    const std::lock_guard done(mutex_);
    --frees_;
    ended_.notify_all();
  };
}

void MpiRuntime::check_not_finalised(const Operation& operation, int rank, int size) const {
  ISOBAR_CHECK(!is_finalised(), place(operation, rank, size),
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
  ended_.wait_for(lock, kPatience, [&] { return stopped_ || healthy_; });
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
    mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level_), "MPI_Init_thread");
    owns_mpi_ = true;
    // Errors that belong to no communicator go here, and would end the process.
    mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler");
    return;
  }
  mpi_check(MPI_Query_thread(&level_), "MPI_Query_thread");
  ISOBAR_CHECK(level_ >= MPI_THREAD_SERIALIZED, "backend mpi: MPI was initialised at thread level ",
               level_, ", wanted MPI_THREAD_MULTIPLE (", MPI_THREAD_MULTIPLE,
               ") or at least MPI_THREAD_SERIALIZED (", MPI_THREAD_SERIALIZED,
               "); call MPI_Init_thread with it, or let isobar start MPI");
}

void MpiRuntime::progress() {
  while (take_new()) {
    if (poll()) pace_.moved();
    if (!flying_.empty()) nap();
  }
}

/// Waits for tasks while none is in flight; false at the end.
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
    for (const auto& completion : requests_.test()) moved |= advance(completion);
  }
  const auto before = flying_.size();
  std::erase_if(flying_, [&](Flight& flight) { return leaves(flight); });
  return moved || flying_.size() < before;
}

/// The program has finalised MPI while operations were in flight: no call is allowed any more.
void MpiRuntime::give_up() {
  for (auto& flight : flying_) {
    if (dynamic_cast<FreeTask*>(flight.task.get()) || flight.broken) continue;
    flight.started = flight.broken = true;
    complain(flight, flight.task->place() + ": the program has called MPI_Finalize meanwhile");
  }
}

bool MpiRuntime::start_waiting() {
  bool moved = false;
  for (auto& flight : flying_) {
    if (flight.started || !flight.task->may_start()) continue;
    flight.started = moved = true;
    try {
      flight.ticket->family->cause()->check();
      flight.task->start(requests_);
    } catch (const std::exception& error) {
      flight.broken = true;
      complain(flight, detail::join(flight.task->place(), ": ", error.what()));
    }
  }
  return moved;
}

bool MpiRuntime::advance(const MpiRequests::Completion& completion) {
  try {
    mpi_check(completion.error, "MPI");
    completion.task->advance(requests_, completion.token, completion.status);
  } catch (const std::exception& error) {
    for (auto& flight : flying_) {
      if (flight.task.get() != completion.task || flight.broken) continue;
      flight.broken = true;
      complain(flight, detail::join(flight.task->place(), ": ", error.what()));
    }
  }
  return true;
}

/// True if it is no longer in flight.
bool MpiRuntime::leaves(Flight& flight) {
  if (flight.broken || flight.ticket->family->cause()->failed()) {
    abandon(flight);
    return true;
  }
  if (flight.started && flight.task->finished()) {
    end(flight);
    return true;
  }
  if (steady_clock::now() > flight.ticket->deadline) complain(flight, flight.task->too_late());
  return false;
}

/// Who waits for it hears the verdict; the thread itself goes on.
void MpiRuntime::complain(Flight& flight, const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    if (!flight.ticket->complaint.empty()) return;
    flight.ticket->complaint = message;
    healthy_ = false;
  }
  flight.ticket->family->cause()->suspect(message);
  ended_.notify_all();
}

void MpiRuntime::end(Flight& flight) {
  std::shared_ptr<const MpiTask> task;  // its tensors go once the lock is free again
  const std::lock_guard lock(mutex_);
  task.swap(flight.ticket->task);
  flight.ticket->done = true;
  --pending_;
  ended_.notify_all();
}

void MpiRuntime::abandon(Flight& flight) {
  requests_.forget(*flight.task);
  abandoned_.push_back(flight);
  const std::lock_guard lock(mutex_);
  --pending_;
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
