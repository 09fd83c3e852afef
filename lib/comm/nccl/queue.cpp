// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/queue.hpp"

#include <isobar/core/error.hpp>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "comm/backend.hpp"
#include "comm/devices/naps.hpp"
#include "comm/nccl/launch.hpp"

namespace isobar {
namespace {

/// How often the device and NCCL are asked: an error is known within it, memory in flight comes
/// back within it, and a few microseconds a look are half a per cent of a core.
constexpr std::chrono::milliseconds kLook{1};

/// How often where only failed operations are left, which may never end.
constexpr std::chrono::milliseconds kLookAtWrecks{50};

/// How soon a waiter sees that the world has failed.
constexpr std::chrono::milliseconds kGlance{2};

/// How long the threads may take to stop: one may hang inside NCCL.
constexpr std::chrono::seconds kPatienceOfThreads{2};

bool is_message(const Operation& operation) {
  return operation.kind == OperationKind::send || operation.kind == OperationKind::receive;
}

/// The device may write to their tensors until the process ends.
void keep_for_ever(std::vector<NcclQueue::FlightPtr> wrecks) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<NcclQueue::FlightPtr>;
  const std::lock_guard lock(mutex);
  kept->insert(kept->end(), wrecks.begin(), wrecks.end());
}

}  // namespace

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

void NcclQueue::detach() noexcept {
  std::unique_lock lock(mutex_);
  if (--communicators_ > 0) return;
  stop_ = true;
  to_issue_.notify_all();
  to_watch_.notify_all();
  const bool stopped =
      changed_.wait_for(lock, kPatienceOfThreads, [this] { return running_ == 0; });
  auto wrecks = std::exchange(flying_, {});
  lock.unlock();
  for (auto& thread : threads_) stopped ? thread.join() : thread.detach();
  if (!wrecks.empty()) keep_for_ever(std::move(wrecks));
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

NcclQueue::FlightPtr NcclQueue::push(std::shared_ptr<NcclLink> link, Operation operation) {
  auto input = api_->record(device_, api_->current_stream(device_));
  const std::lock_guard lock(mutex_);
  if (!is_message(operation)) {
    start_messages();
    auto flight = add(std::move(link), std::move(operation), std::move(input));
    queue_.push_back(flight);
    to_issue_.notify_one();
    return flight;
  }
  if (auto flight = open_messages_of(*link)) {
    flight->operations.push_back(std::move(operation));
    flight->inputs.push_back(std::move(input));
    return flight;
  }
  auto flight = add(std::move(link), std::move(operation), std::move(input));
  flight->stage = Stage::open;
  return open_.emplace_back(std::move(flight));
}

NcclQueue::FlightPtr NcclQueue::add(std::shared_ptr<NcclLink> link, Operation operation,
                                    DeviceEvent input) {
  auto flight = std::make_shared<NcclFlight>();
  flight->link = std::move(link);
  flight->deadline = Clock::now() + operation.timeout;
  flight->operations.push_back(std::move(operation));
  flight->inputs.push_back(std::move(input));
  if (flying_.empty()) to_watch_.notify_one();
  return flying_.emplace_back(std::move(flight));
}

NcclQueue::FlightPtr NcclQueue::open_messages_of(const NcclLink& link) {
  const auto found = std::find_if(open_.begin(), open_.end(),
                                  [&](const auto& flight) { return flight->link.get() == &link; });
  return found == open_.end() ? nullptr : *found;
}

void NcclQueue::start_messages() {
  if (open_.empty()) return;
  for (auto& flight : open_) {
    flight->stage = Stage::queued;
    queue_.push_back(std::move(flight));
  }
  open_.clear();
  to_issue_.notify_one();
}

bool NcclQueue::is_completed(const FlightPtr& flight) {
  std::unique_lock lock(mutex_);
  start_messages();
  const auto stage = flight->stage;
  const auto done = flight->done;
  lock.unlock();
  if (stage == Stage::done || flight->link->cause().failed()) return true;
  return stage == Stage::issued && api_->reached(done);
}

void NcclQueue::wait_issued(const FlightPtr& flight) {
  auto& cause = flight->link->cause();
  std::unique_lock lock(mutex_);
  start_messages();
  while (flight->stage == Stage::queued && !cause.failed() && Clock::now() < flight->deadline) {
    changed_.wait_for(lock, kGlance);
  }
  const auto stage = flight->stage;
  lock.unlock();
  if (stage == Stage::done) return;
  cause.check();
  if (stage == Stage::queued) cause.fail(too_late(flight));
  // Reported by the issuing thread; the verdict on it is on its way.
  if (stage == Stage::failed) cause.fail("an operation of NCCL's failed");
}

void NcclQueue::wait_done(const FlightPtr& flight) {
  wait_issued(flight);
  auto& cause = flight->link->cause();
  NapsThatGrow naps;
  while (!api_->reached(flight->done) && !cause.failed()) {
    if (Clock::now() >= flight->deadline) cause.fail(too_late(flight));
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
  start_messages();
  while (waits_for_its_turn(link) && !link.cause().failed() && Clock::now() < until) {
    changed_.wait_for(lock, kGlance);
  }
  return !waits_for_its_turn(link);
}

std::string NcclQueue::too_late(const FlightPtr& flight) {
  const auto& options = flight->link->options();
  const std::lock_guard lock(mutex_);
  if (flight->operations.empty()) return "an operation of NCCL's ended too late";
  return timed_out(flight->operations.front(), options.rank, options.size);
}

void NcclQueue::issue_all() {
  std::unique_lock lock(mutex_);
  while (true) {
    to_issue_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) break;
    const auto flight = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    issue(*flight);
    lock.lock();
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
    put_on_stream(flight);
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
  for (const auto& input : flight.inputs) api_->block(device_, link.stream(), input);
  const bool behind_another = last_ && last_link_ != flight.link && !last_link_->cause().failed();
  if (link.options().serialise && behind_another) api_->block(device_, link.stream(), last_);
  // What is begun is waited for even where it cannot be ended: its tensors are in use.
  const auto mark = [&] {
    auto done = api_->record(device_, link.stream());
    const std::lock_guard lock(mutex_);
    flight.done = done;
    return done;
  };
  try {
    launch(flight.operations, link, flight.scratch);
  } catch (...) {
    mark();
    throw;
  }
  last_ = mark();
  last_link_ = flight.link;
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
    bool wrecks_only = true;
    for (const auto& [flight, stage] : flights) wrecks_only &= look_at(flight, stage);
    flights.clear();
    lock.lock();
    if (last_look) return;
    if (!stop_ && !flying_.empty()) to_watch_.wait_for(lock, wrecks_only ? kLookAtWrecks : kLook);
  }
}

bool NcclQueue::is_over(const NcclFlight& flight, Stage stage) const {
  if (stage == Stage::open) return flight.link->cause().failed();
  if (stage == Stage::queued) return false;
  return !flight.done || api_->reached(flight.done);
}

bool NcclQueue::look_at(const FlightPtr& flight, Stage stage) {
  auto& link = *flight->link;
  try {
    // In this order: an abort, which makes the device pass everything, follows the failure.
    const bool over = is_over(*flight, stage);
    if (over) land(flight, stage == Stage::issued && !link.cause().failed());
    const auto status = over ? NcclStatus() : link.status();
    if (status.result == NcclResult::error) report(*flight, status.message);
    if (over || link.cause().failed()) return true;
  } catch (const std::exception& error) {
    report(*flight, error.what());
    return true;
  }
  if (Clock::now() < flight->deadline) return false;
  const std::string complaint = too_late(flight);
  report(*flight, complaint);
  return false;
}

void NcclQueue::report(NcclFlight& flight, const std::string& complaint) {
  auto& link = *flight.link;
  std::string where;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(flight.suspected, true) || flight.operations.empty()) return;
    where = place(flight.operations.front(), link.options().rank, link.options().size);
  }
  if (link.cause().failed()) return;
  const bool named = complaint.rfind(where, 0) == 0;
  link.cause().suspect(named ? complaint : where + ": " + complaint);
}

void NcclQueue::land(const FlightPtr& flight, bool well) {
  std::vector<Operation> operations;
  std::vector<at::Tensor> scratch;
  const std::lock_guard lock(mutex_);
  flight->stage = well ? Stage::done : Stage::failed;
  operations.swap(flight->operations);
  scratch.swap(flight->scratch);
  std::erase(flying_, flight);
  std::erase(open_, flight);
  changed_.notify_all();
}

}  // namespace isobar
