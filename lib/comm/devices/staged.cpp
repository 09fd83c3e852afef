// SPDX-License-Identifier: Apache-2.0
// Three threads take part. The caller notes where its stream is and goes on. The departing thread
// waits until the values are on the host and starts the inner operation: it alone touches the inner
// communicator, so that one gets the operations in the order of the calls, as on every other rank.
// The returning thread waits for the ranks and starts the copy back. Host memory returns to the
// pool once the device has passed that copy, even where the world has failed.
#include "comm/devices/staged.hpp"

#include <isobar/core/error.hpp>
#include <ATen/core/grad_mode.h>

#include <exception>
#include <future>
#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/backend/job_queue.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/devices/staged_flight.hpp"

namespace isobar {
namespace {

using FlightPtr = std::shared_ptr<StagedFlight>;

/// What a communicator shares with its threads, one of which may outlive it.
struct StagedState {
  std::unique_ptr<Communicator> inner;
  std::shared_ptr<FirstCause> cause;

  /// Runs `job` for `flight`; its error is the world's.
  void run(StagedFlight& flight, const std::function<void()>& job) const {
    try {
      const at::NoGradGuard no_grad;
      flight.staging()->use_device();
      job();
    } catch (const std::exception& error) {
      if (!cause->failed()) cause->suspect(error.what());
      flight.settle();
    }
  }
};

/// The thread that waits for exchanges and copies back; gone with the communicator.
class Returns {
 public:
  explicit Returns(std::shared_ptr<const StagedState> state) : state_(std::move(state)) {}

  void await(const FlightPtr& flight) {
    queue_.add([state = state_, flight] {
      state->run(*flight, [&] {
        flight->arrive();
        flight->completion()->complete();
        flight->unload();
      });
    });
  }

  void unload(const FlightPtr& flight) {
    queue_.add([state = state_, flight] { state->run(*flight, [&] { flight->unload(); }); });
  }

 private:
  std::shared_ptr<const StagedState> state_;
  JobQueue queue_{1};
};

/// Blocks until the copy back has ended, or the world has failed before.
void wait_for_device(const StagedFlight& flight, const FirstCause& cause) {
  const auto done = flight.done();
  if (!done) return;
  flight.staging()->wait(done, [&] { return cause.failed(); });
  if (!flight.staging()->reached(done)) cause.check();
}

/// The handle where a thread of the communicator's awaits the exchange: its completion
/// says that the copy back has begun.
class AwaitedWork final : public WorkState {
 public:
  AwaitedWork(FlightPtr flight, std::shared_ptr<FirstCause> cause)
      : flight_(std::move(flight)), cause_(std::move(cause)) {}

  bool is_completed() const override {
    if (!flight_->completion()->is_completed()) return false;
    const auto done = flight_->done();
    return cause_->failed() || !done || flight_->staging()->reached(done);
  }

  void wait() override {
    flight_->completion()->wait();
    if (const auto done = flight_->done()) flight_->staging()->order(done);
  }

  void synchronize() override {
    flight_->completion()->wait();
    wait_for_device(*flight_, *cause_);
  }

 private:
  FlightPtr flight_;
  std::shared_ptr<FirstCause> cause_;
};

/// The handle of what the caller awaits itself: its completion says that the exchange has
/// begun. A thread that awaited messages in their order would hold up those that come
/// earlier.
class OwnWork final : public WorkState {
 public:
  OwnWork(FlightPtr flight, std::shared_ptr<FirstCause> cause, std::weak_ptr<Returns> returns)
      : flight_(std::move(flight)), cause_(std::move(cause)), returns_(std::move(returns)) {}

  bool is_completed() const override {
    if (!flight_->departed()) return cause_->failed();
    if (!flight_->exchanged()) return false;
    if (cause_->failed() || !flight_->on_device()) return true;
    const auto done = arrive();
    return !done || flight_->staging()->reached(done);
  }

  void wait() override {
    if (const auto done = arrive()) flight_->staging()->order(done);
  }

  void synchronize() override {
    arrive();
    wait_for_device(*flight_, *cause_);
  }

 private:
  DeviceEvent arrive() const {
    flight_->completion()->wait();
    flight_->arrive();
    if (flight_->on_device()) std::call_once(unloaded_, [this] { unload(); });
    return flight_->done();
  }

  void unload() const {
    if (const auto returns = returns_.lock()) return returns->unload(flight_);
    flight_->unload();
  }

  FlightPtr flight_;
  std::shared_ptr<FirstCause> cause_;
  std::weak_ptr<Returns> returns_;
  mutable std::once_flag unloaded_;
};

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> inner, std::shared_ptr<Staging> staging)
      : Communicator(inner->rank(), inner->size(), inner->timeout(),
                     BackendAccess::first_cause(*inner)),
        staging_(std::move(staging)),
        state_(std::make_shared<StagedState>(StagedState{std::move(inner), first_cause()})),
        returns_(std::make_shared<Returns>(state_)) {}

  /// What was issued departs, and what has departed arrives, before the inner one goes.
  ~StagedCommunicator() override {
    if (first_cause()->is_copy()) {  // a forked child must not call the device's library
      keep_to_the_end(std::move(staging_));
      keep_to_the_end(std::move(state_));
      keep_to_the_end(std::move(returns_));
    }
    departures_.reset();
    returns_.reset();
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_device(operation);
    const auto& tensor = values_of(operation);
    const bool on_device = tensor.defined() && !tensor.is_cpu();
    const bool awaited = on_device && !is_message(operation);
    if (on_device) staging_->check_capture(full_name(operation, rank(), size()));
    auto completion = std::make_shared<Completion>(operation, rank(), size(), first_cause());
    auto flight = std::make_shared<StagedFlight>(std::move(operation), staging_,
                                                 on_device ? staging_->now() : nullptr,
                                                 std::move(completion));
    depart(flight, awaited);
    if (awaited) return Work(std::make_shared<AwaitedWork>(std::move(flight), first_cause()));
    return Work(std::make_shared<OwnWork>(std::move(flight), first_cause(), returns_));
  }

  void check_device(const Operation& operation) const {
    const at::Device wanted(staging_->device_type(),
                            static_cast<at::DeviceIndex>(staging_->device()));
    for (const auto* tensor : {&operation.input, &operation.output}) {
      ISOBAR_CHECK(!tensor->defined() || tensor->is_cpu() || tensor->device() == wanted,
                   full_name(operation, rank(), size()), ": the tensor is on ", tensor->device(),
                   ", but this communicator takes tensors on cpu and ", wanted,
                   "; move it there or use a communicator for its device");
    }
  }

  /// One thread issues to the inner communicator, in one order on all ranks.
  void depart(const FlightPtr& flight, bool awaited) {
    departures_->add([state = state_, flight, awaited, returns = std::weak_ptr(returns_)] {
      state->run(*flight, [&] {
        state->cause->check();
        flight->depart(*state->inner);
        const auto still_there = returns.lock();
        if (!awaited) return flight->completion()->complete();
        if (still_there) still_there->await(flight);
      });
    });
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    auto made = std::make_shared<std::promise<std::unique_ptr<Communicator>>>();
    auto part = made->get_future();
    departures_->add([state = state_, made, color, key, limit = timeout()] {
      try {
        state->inner->set_timeout(limit);
        made->set_value(state->inner->split(color, key));
      } catch (...) {
        made->set_exception(std::current_exception());
      }
    });
    auto inner = part.get();
    BackendAccess::catch_up(*this, *state_->inner);
    if (!inner) return nullptr;
    return std::make_unique<StagedCommunicator>(std::move(inner), staging_);
  }

  std::string_view do_backend() const noexcept override { return state_->inner->backend(); }

  void do_abort(const std::string& reason) override { state_->inner->abort(reason); }

  std::shared_ptr<Staging> staging_;
  std::shared_ptr<StagedState> state_;
  std::shared_ptr<Returns> returns_;
  std::unique_ptr<JobQueue> departures_ = std::make_unique<JobQueue>(1);
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner,
                                                       std::shared_ptr<const StagingApi> api,
                                                       int device) {
  auto staging = std::make_shared<Staging>(std::move(api), device);
  return std::make_unique<StagedCommunicator>(std::move(inner), std::move(staging));
}

}  // namespace isobar
