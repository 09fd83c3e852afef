// SPDX-License-Identifier: Apache-2.0
// Callers push and wait, one thread issues, one watches. The mutex guards the lists and the stages
// of flights; it is never held during a call of NCCL's or of the device's, which may take as long
// as another rank is away, nor while a task runs. The issuing thread makes a queued flight issued
// or failed, the watching thread makes it done and alone takes it off `flying_`: its tensors are
// held until the device has passed, or to the end of the program.
#include "comm/nccl/queue.hpp"

#include <isobar/core/error.hpp>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "comm/backend/keeper.hpp"
#include "comm/backend/naps.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/nccl/launch.hpp"

namespace isobar {
namespace {

/// How often the device and NCCL are asked: an error is known within it, memory in flight comes
/// back within it, and a few microseconds a look are half a per cent of a core.
constexpr std::chrono::milliseconds kLook{1};

/// How often where only failed operations are left, which may never end.
constexpr std::chrono::milliseconds kLookAtFailed{50};

/// How soon a waiter sees that the world has failed.
constexpr std::chrono::milliseconds kGlance{2};

/// How long the threads may take to stop: one may hang inside NCCL.
constexpr std::chrono::seconds kPatienceOfThreads{2};

/// What the messages about a flight begin with, under the mutex; empty where it is over.
std::string name_of(const NcclFlight& flight) {
  if (!flight.operation) return flight.task_name;
  return full_name(*flight.operation, flight.link->options().rank, flight.link->options().size);
}

}  // namespace

/// While it lives, the calling thread is inside a task of a queue's.
class NcclQueue::Turn {
 public:
  Turn(const NcclQueue& queue, NcclFlight& task) {
    queue_ = &queue;
    task_ = &task;
  }
  ~Turn() {
    queue_ = nullptr;
    task_ = nullptr;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  /// Null outside of the queue's tasks.
  static NcclFlight* task_of(const NcclQueue& queue) { return queue_ == &queue ? task_ : nullptr; }

 private:
  static thread_local const NcclQueue* queue_;
  static thread_local NcclFlight* task_;
};

thread_local const NcclQueue* NcclQueue::Turn::queue_ = nullptr;
thread_local NcclFlight* NcclQueue::Turn::task_ = nullptr;

NcclQueue::NcclQueue(std::shared_ptr<const NcclApi> api, int device)
    : api_(std::move(api)), device_(device) {}

bool NcclQueue::attach() {
  const std::lock_guard lock(mutex_);
  if (stop_) return false;
  if (communicators_++ > 0) return true;
  for (const auto side : {issuer, watcher}) {
    ++running_;
    threads_[side] = std::thread([self = shared_from_this(), side] { self->run(side); });
  }
  return true;
}

// A thread that hangs inside NCCL is left behind with what it holds.
void NcclQueue::detach() noexcept {
  std::unique_lock lock(mutex_);
  if (--communicators_ > 0) return;
  stop_ = true;
  to_issue_.notify_all();
  to_watch_.notify_all();
  const bool stopped =
      changed_.wait_for(lock, kPatienceOfThreads, [this] { return running_ == 0; });
  auto failed = std::exchange(flying_, {});
  lock.unlock();
  for (auto& thread : threads_) stopped ? thread.join() : thread.detach();
  // The device may write to their tensors until the process ends.
  for (auto& flight : failed) keep_to_the_end(std::move(flight));
}

bool NcclQueue::has_stopped() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void NcclQueue::run(Side side) noexcept {
  {
    const at::NoGradGuard no_grad;
    api_->use_device(device_);
    side == issuer ? issue_all() : watch_all();
  }
  const std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
}

NcclQueue::FlightPtr NcclQueue::make_flight(std::shared_ptr<NcclLink> link,
                                            std::chrono::milliseconds timeout) {
  auto flight = std::make_shared<NcclFlight>();
  flight->link = std::move(link);
  flight->timeout = timeout;
  flight->deadline = Clock::now() + timeout;
  flight->input = api_->record(device_, api_->current_stream(device_));
  return flight;
}

NcclQueue::FlightPtr NcclQueue::push(std::shared_ptr<NcclLink> link, Operation operation) {
  auto flight = make_flight(std::move(link), operation.timeout);
  flight->operation = std::move(operation);
  auto* const task = Turn::task_of(*this);
  task ? issue_inside(*task, flight) : enqueue(flight);
  return flight;
}

NcclQueue::FlightPtr NcclQueue::push_task(std::shared_ptr<NcclLink> link, std::string name,
                                          std::chrono::milliseconds timeout,
                                          std::function<void()> task) {
  auto flight = make_flight(std::move(link), timeout);
  flight->task_name = std::move(name);
  flight->task = std::move(task);
  enqueue(flight);
  return flight;
}

void NcclQueue::enqueue(const FlightPtr& flight) {
  const std::lock_guard lock(mutex_);
  if (flying_.empty()) to_watch_.notify_one();
  flying_.push_back(flight);
  queue_.push_back(flight);
  to_issue_.notify_one();
}

bool NcclQueue::is_completed(const FlightPtr& flight) {
  std::unique_lock lock(mutex_);
  const auto stage = flight->stage;
  const auto done = flight->done;
  lock.unlock();
  if (stage == Stage::done || flight->link->cause().failed()) return true;
  return stage == Stage::issued && api_->reached(done);
}

void NcclQueue::wait_issued(const FlightPtr& flight) {
  auto& cause = flight->link->cause();
  std::unique_lock lock(mutex_);
  // A failure of the world signals nothing here, hence the glances.
  while (flight->stage == Stage::queued && !cause.failed() && Clock::now() < deadline_of(*flight)) {
    changed_.wait_for(lock, kGlance);
  }
  const auto stage = flight->stage;
  lock.unlock();
  if (stage == Stage::done) return;
  cause.check();
  if (stage == Stage::queued) cause.fail(too_late(*flight));
  // Reported by the issuing thread; the verdict on it is on its way.
  if (stage == Stage::failed) cause.fail("an operation of NCCL's failed");
}

void NcclQueue::wait_done(const FlightPtr& flight) {
  wait_issued(flight);
  auto& cause = flight->link->cause();
  NapsThatGrow naps;
  while (!api_->reached(flight->done) && !cause.failed()) {
    if (is_late(*flight)) cause.fail(too_late(*flight));
    naps.nap();
  }
  check(flight);
}

// An abort makes the device pass the operation too, with whatever is in its tensors then.
void NcclQueue::check(const FlightPtr& flight) {
  const std::lock_guard lock(mutex_);
  if (flight->stage != Stage::done) flight->link->cause().check();
}

bool NcclQueue::waits_for_its_turn(const NcclLink& link) const {
  return std::any_of(flying_.begin(), flying_.end(), [&](const auto& flight) {
    return flight->link.get() == &link && flight->stage == Stage::queued;
  });
}

bool NcclQueue::drain(const NcclLink& link, std::chrono::milliseconds limit) {
  const auto until = Clock::now() + limit;
  std::unique_lock lock(mutex_);
  while (waits_for_its_turn(link) && !link.cause().failed() && Clock::now() < until) {
    changed_.wait_for(lock, kGlance);
  }
  return !waits_for_its_turn(link);
}

// What waits for its turn is not late before what is being issued: that is what hangs.
NcclQueue::Clock::time_point NcclQueue::deadline_of(const NcclFlight& flight) const {
  const bool waits = flight.stage == Stage::queued && issuing_;
  return waits ? std::max(flight.deadline, issuing_->deadline) : flight.deadline;
}

bool NcclQueue::is_late(const NcclFlight& flight) {
  const std::lock_guard lock(mutex_);
  return Clock::now() >= deadline_of(flight);
}

std::string NcclQueue::too_late(const NcclFlight& flight) {
  const std::lock_guard lock(mutex_);
  const auto& first = flight.stage == Stage::queued && issuing_ ? *issuing_ : flight;
  const auto& late = first.latest ? *first.latest : first;
  const auto& options = late.link->options();
  if (late.operation) return timed_out(*late.operation, options.rank, options.size);
  if (!first.task_name.empty()) return first.task_name + ": took too long to be issued";
  return "an operation of NCCL's ended too late";
}

void NcclQueue::issue_all() {
  std::unique_lock lock(mutex_);
  while (true) {
    to_issue_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) break;
    const auto flight = issuing_ = std::move(queue_.front());
    queue_.pop_front();
    flight->deadline = Clock::now() + flight->timeout;
    lock.unlock();
    issue(*flight);
    lock.lock();
    issuing_.reset();
  }
  lock.unlock();
  last_.reset();
  last_link_.reset();
}

void NcclQueue::issue(NcclFlight& flight) {
  auto stage = Stage::issued;
  auto& link = *flight.link;
  try {
    link.cause().check();
    flight.task ? run_task(flight) : put_on_stream(flight);
  } catch (const std::exception& error) {
    stage = Stage::failed;
    report(flight, error.what());
  }
  const std::lock_guard lock(mutex_);
  flight.stage = stage;
  changed_.notify_all();
}

void NcclQueue::put_on_stream(NcclFlight& flight) {
  auto& link = *flight.link;
  api_->block(device_, link.stream(), flight.input);
  const bool behind_another = last_ && last_link_ != flight.link && !last_link_->cause().failed();
  if (link.options().serialise && behind_another) api_->block(device_, link.stream(), last_);
  // What is begun is waited for even where it cannot be ended: its tensors are in use.
  try {
    launch(*flight.operation, link, flight.scratch);
  } catch (...) {
    mark_end(flight, link.stream());
    throw;
  }
  last_ = mark_end(flight, link.stream());
  last_link_ = flight.link;
}

DeviceEvent NcclQueue::mark_end(NcclFlight& flight, DeviceStream stream) {
  auto done = api_->record(device_, stream);
  const std::lock_guard lock(mutex_);
  flight.done = done;
  return done;
}

// The communicator that stands for the task may have gone, and with it what the task refers to.
void NcclQueue::run_task(NcclFlight& flight) {
  const auto task = std::exchange(flight.task, nullptr);
  if (flight.link->is_given_up()) throw CommError(NcclLink::kGivenUp);
  if (!task_stream_) task_stream_ = api_->make_priority_stream(device_);
  api_->block(device_, *task_stream_, flight.input);
  try {
    const Turn turn(*this, flight);
    api_->with_stream(device_, *task_stream_, task);
  } catch (...) {
    mark_end(flight, *task_stream_);
    throw;
  }
  mark_end(flight, *task_stream_);
}

// It is the task's turn, so what it issues comes next. Where NCCL hung, whatever the task refers to
// may have gone meanwhile: then this throws.
void NcclQueue::issue_inside(NcclFlight& task, const FlightPtr& flight) {
  {
    const std::lock_guard lock(mutex_);
    flying_.push_back(flight);
    task.latest = flight;
    task.deadline = std::max(task.deadline, flight->deadline);
  }
  issue(*flight);
  wait_issued(flight);
}

void NcclQueue::watch_all() {
  std::unique_lock lock(mutex_);
  while (true) {
    to_watch_.wait(lock, [this] { return stop_ || !flying_.empty(); });
    // Stopped, it looks once more for what has ended.
    const bool last_look = stop_;
    std::vector<std::pair<FlightPtr, Stage>> flights;
    for (const auto& flight : flying_) flights.emplace_back(flight, flight->stage);
    lock.unlock();
    bool failed_only = true;
    for (const auto& [flight, stage] : flights) failed_only &= look_at(flight, stage);
    flights.clear();
    lock.lock();
    if (last_look) return;
    if (!stop_ && !flying_.empty()) to_watch_.wait_for(lock, failed_only ? kLookAtFailed : kLook);
  }
}

bool NcclQueue::is_over(const NcclFlight& flight, Stage stage) const {
  if (stage == Stage::queued) return false;
  return !flight.done || api_->reached(flight.done);
}

bool NcclQueue::look_at(const FlightPtr& flight, Stage stage) {
  auto& link = *flight->link;
  try {
    // In this order: an abort, which makes the device pass everything, follows the failure.
    const bool over = is_over(*flight, stage);
    if (over) land(flight, stage == Stage::issued && !link.cause().failed());
    // Of a task the operations are asked for it, which then are named.
    const bool asks = !over && flight->task_name.empty();
    const auto status = asks ? link.status() : NcclStatus();
    if (status.result == NcclResult::error) report(*flight, status.message);
    if (over || link.cause().failed()) return true;
  } catch (const std::exception& error) {
    report(*flight, error.what());
    return true;
  }
  if (is_late(*flight)) suspect(*flight, too_late(*flight));
  return false;
}

void NcclQueue::report(NcclFlight& flight, const std::string& error) {
  std::unique_lock lock(mutex_);
  const auto name = name_of(flight);
  lock.unlock();
  suspect(flight, name + ": " + error);
}

void NcclQueue::suspect(NcclFlight& flight, const std::string& suspicion) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(flight.suspected, true) || name_of(flight).empty()) return;
  }
  auto& cause = flight.link->cause();
  if (!cause.failed()) cause.suspect(suspicion);
}

void NcclQueue::land(const FlightPtr& flight, bool well) {
  std::optional<Operation> operation;
  std::vector<at::Tensor> scratch;
  std::shared_ptr<const NcclFlight> latest;
  const std::lock_guard lock(mutex_);
  flight->stage = well ? Stage::done : Stage::failed;
  operation.swap(flight->operation);
  scratch.swap(flight->scratch);
  latest.swap(flight->latest);
  flight->task_name.clear();
  std::erase(flying_, flight);
  changed_.notify_all();
}

}  // namespace isobar
