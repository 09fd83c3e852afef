// SPDX-License-Identifier: Apache-2.0
// The issuing thread calls, the watching thread asks for the status, whoever records the first
// cause aborts, and a thread of its own ends the communicator, since that may hang. `use_` is held
// around each call, because NCCL wants one thread at a time on a communicator. An abort alone may
// go past it: it is what makes a call return that hangs. `given_up_` is set before, so that no new
// call begins meanwhile.
#include "comm/nccl/link.hpp"

#include <isobar/core/error.hpp>

#include <utility>

#include "comm/backend/naps.hpp"
#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

/// How long an abort waits for a thread that is inside a call on the same
/// communicator; the abort is what makes such a call return.
constexpr std::chrono::milliseconds kPatienceOfAbort{200};

/// A communicator in the making.
struct Attempt {
  std::shared_ptr<const NcclApi> api;
  int device;
  FirstCause& cause;
  const std::string& where;
  std::chrono::milliseconds timeout;
  std::shared_ptr<NcclSlot> slot = std::make_shared<NcclSlot>();

  /// Polls until it is made; otherwise gives it up and throws.
  void await(NcclStatus status, const std::function<NcclStatus()>& poll) const {
    const auto deadline = NcclLink::Clock::now() + timeout;
    NapsThatGrow naps;
    while (status.result == NcclResult::in_progress && !cause.failed() &&
           NcclLink::Clock::now() < deadline) {
      naps.nap();
      status = poll();
    }
    if (status.result == NcclResult::success) return;
    give_up();
    cause.check();
    const bool late = status.result == NcclResult::in_progress;
    cause.fail(where + ": " + (late ? "no answer in " + in_words(timeout) : status.message));
  }

  /// May hang (nccl#863, nccl#1777), so not in this thread.
  void give_up() const {
    std::thread([api = api, slot = slot, device = device] {
      api->use_device(device);
      if (slot->comm != nullptr) (void)api->abort(slot->comm);
    }).detach();
  }
};

}  // namespace

NcclLink::NcclLink(std::shared_ptr<const NcclApi> api, std::shared_ptr<NcclSlot> slot,
                   const NcclLinkOptions& options, std::shared_ptr<FirstCause> cause)
    : api_(std::move(api)),
      slot_(std::move(slot)),
      comm_(slot_->comm),
      options_(options),
      cause_(std::move(cause)),
      stream_(api_->make_priority_stream(options.device)) {}

std::shared_ptr<NcclSlot> NcclLink::connect(const std::shared_ptr<const NcclApi>& api,
                                            const NcclLinkOptions& options,
                                            const std::vector<char>& id, FirstCause& cause,
                                            const std::string& where,
                                            std::chrono::milliseconds timeout) {
  api->use_device(options.device);
  const Attempt attempt{api, options.device, cause, where, timeout};
  const auto begun = api->init(*attempt.slot, options.size, id, options.rank);
  attempt.await(begun, [&] { return api->async_status(attempt.slot->comm); });
  return attempt.slot;
}

std::shared_ptr<NcclSlot> NcclLink::split(int color, int key, const std::string& where,
                                          std::chrono::milliseconds timeout) {
  api_->use_device(options_.device);
  const Attempt attempt{api_, options_.device, *cause_, where, timeout};
  const auto begun =
      use([&](NcclComm comm) { return api_->split(comm, color, key, *attempt.slot); });
  attempt.await(begun, [&]() -> NcclStatus {
    auto status = use(api_->async_status);
    if (status.result != NcclResult::success || color < 0) return status;
    const NcclComm child = attempt.slot->comm;
    if (child == nullptr) return {NcclResult::in_progress, {}};
    return api_->async_status(child);
  });
  return attempt.slot;
}

NcclStatus NcclLink::use(const std::function<NcclStatus(NcclComm)>& work) {
  const std::lock_guard lock(use_);
  if (given_up_) return {NcclResult::error, kGivenUp};
  return work(comm_);
}

void NcclLink::call(const std::function<NcclStatus(NcclComm)>& work) {
  auto status = use(work);
  for (NapsThatGrow naps; status.result == NcclResult::in_progress; naps.nap()) {
    status = use(api_->async_status);
  }
  if (status.result == NcclResult::error) throw CommError(status.message);
  if (is_given_up()) throw CommError(kGivenUp);
}

NcclStatus NcclLink::status() {
  const std::unique_lock lock(use_, std::try_to_lock);
  if (!lock || given_up_ || ending_) return {};
  return api_->async_status(comm_);
}

void NcclLink::abort() noexcept { end_in_a_thread(&NcclLink::end_by_abort); }

void NcclLink::close(std::chrono::milliseconds limit) noexcept {
  end_in_a_thread(cause_->failed() ? &NcclLink::end_by_abort : &NcclLink::end_in_order);
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [this] { return ended_; });
}

void NcclLink::end_in_a_thread(void (NcclLink::*end)()) noexcept {
  if (end == &NcclLink::end_by_abort) given_up_ = true;
  if (ending_.exchange(true)) return;
  try {
    std::thread([self = shared_from_this(), end] { ((*self).*end)(); }).detach();
  } catch (...) {
    ended();  // no thread to be had: the communicator is left behind
  }
}

void NcclLink::end_by_abort() {
  std::unique_lock lock(use_, std::defer_lock);
  const auto until = Clock::now() + kPatienceOfAbort;
  while (!lock.try_lock() && Clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (lock) lock.unlock();  // nobody begins a new call now
  api_->use_device(options_.device);
  (void)api_->abort(comm_);
  ended();
}

void NcclLink::end_in_order() {
  api_->use_device(options_.device);
  auto status = use(api_->finalize);
  for (NapsThatGrow naps; status.result == NcclResult::in_progress; naps.nap()) {
    status = use(api_->async_status);
  }
  // Failed meanwhile: what was begun in good order is to be ended by abort.
  if (given_up_ || status.result == NcclResult::error) return end_by_abort();
  (void)use(api_->destroy);
  ended();
}

void NcclLink::ended() noexcept {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

}  // namespace isobar
