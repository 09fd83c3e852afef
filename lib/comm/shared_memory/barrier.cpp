// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/barrier.hpp"

#include <isobar/core/error.hpp>

#include <sched.h>

#include <utility>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/rank_list.hpp"

namespace isobar {
namespace {

using Clock = std::chrono::steady_clock;

/// How long it stays awake: a few times what falling asleep and being woken costs (about 20 us).
constexpr std::chrono::microseconds kAwake{100};

}  // namespace

// Where ranks share cores, giving way to a rank that has work is what makes it come; beyond that
// the core belongs to those who compute.
bool SpinThenSleep::changes_soon(const Futex& word, uint32_t seen) const {
  constexpr int kLooks = 50;
  const auto until = Clock::now() + kAwake;
  do {
    for (int i = 0; own_cores_ && i < kLooks; ++i) {
      if (word.load(std::memory_order_acquire) != seen) return true;
    }
    if (word.load(std::memory_order_acquire) != seen) return true;
    if (!own_cores_) sched_yield();
  } while (Clock::now() < until);
  return word.load(std::memory_order_acquire) != seen;
}

void SpinThenSleep::wait(const Futex& word, uint32_t seen, Futex& sleepers) const {
  if (changes_soon(word, seen)) return;
  // Who changes the word stores it and then reads the count, in one order for all threads: either
  // it sees this sleeper and wakes it, or this one sees the word changed and does not sleep.
  sleepers.fetch_add(1);
  if (word.load() == seen) futex_wait(word, seen, kSlice);
  sleepers.fetch_sub(1);
}

SharedBarrier::SharedBarrier(std::shared_ptr<SharedSegment> segment, int rank,
                             std::shared_ptr<FirstCause> cause, bool own_cores)
    : segment_(std::move(segment)),
      rank_(rank),
      cause_(std::move(cause)),
      spin_then_sleep_(own_cores) {}

void SharedBarrier::arrive_and_wait(const Operation& operation, Deadline deadline) {
  check_world();  // a rank that comes late must not end a phase that others have given up
  auto& header = segment_->header();
  ++phase_;
  segment_->block(rank_).arrived.store(phase_, std::memory_order_relaxed);
  const auto arrived = header.arrivals.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (std::cmp_less(arrived, size())) return wait_for_phase(operation, deadline);
  // The last to arrive. Nobody counts towards the next phase before having seen the new one, whose
  // store publishes the count of zero as well.
  header.arrivals.store(0, std::memory_order_relaxed);
  header.phase.store(phase_);
  if (header.phase_sleepers.load() > 0) futex_wake_all(header.phase);
}

void SharedBarrier::wait_for_phase(const Operation& operation, Deadline deadline) {
  auto& header = segment_->header();
  while (header.phase.load(std::memory_order_acquire) != phase_) {
    spin_then_sleep_.wait(header.phase, phase_ - 1, header.phase_sleepers);
    if (header.phase.load(std::memory_order_acquire) == phase_) return;
    check_world();
    for (int r = 0; r < size(); ++r) {
      check_peer(r, operation, [&] { return has_come(r); });
    }
    const auto late = missing();
    if (Clock::now() < deadline || late.empty()) continue;
    throw CommError(timed_out(operation, rank_, size()) + "; not arrived: " + late);
  }
}

bool SharedBarrier::has_come(int rank) const noexcept {
  const auto arrived = segment_->block(rank).arrived.load(std::memory_order_acquire);
  return static_cast<int32_t>(arrived - phase_) >= 0;
}

std::string SharedBarrier::missing() const {
  std::vector<int> ranks;
  for (int r = 0; r < size(); ++r) {
    if (!has_come(r)) ranks.push_back(r);
  }
  return rank_list(ranks);
}

void SharedBarrier::check_world() const {
  cause_->check();
  if (auto failure = segment_->failure(); !failure.empty()) throw CommError(failure);
  if (stopped()) throw CommError("the communicator was destroyed");
}

void SharedBarrier::check_peer(int peer, const Operation& operation,
                               const std::function<bool()>& came) const {
  if (came()) return;
  const auto& block = segment_->block(peer);
  const auto presence = block.presence.load(std::memory_order_acquire);
  const bool ended = presence == Presence::attached && has_ended(block.process);
  // What it did before it went counts; it may have come meanwhile.
  if ((presence == Presence::attached && !ended) || came()) return;
  if (ended) {
    throw CommError(detail::join(full_name(operation, rank_, size()), ": rank ", peer, " (pid ",
                                 block.process.pid, ") is gone (", operation.signature(), ")"));
  }
  throw CommError(detail::join(
      "rank ", peer, " of ", size(), " left before ", operation.name(), " (", operation.signature(),
      "): ", presence == Presence::left ? kDestroyed : "an exception ended it"));
}

void SharedBarrier::stop() noexcept {
  stopped_.store(true);
  segment_->wake_all();
}

}  // namespace isobar
