// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/gate.hpp"

#include <isobar/core/error.hpp>

#include <sched.h>

#include <utility>

#include "comm/backend.hpp"

namespace isobar {
namespace {

using Clock = std::chrono::steady_clock;

/// How long it stays awake: a few times what falling asleep and being woken costs (about 20 us).
constexpr std::chrono::microseconds kAwake{100};

}  // namespace

// Where ranks share cores, giving way to a rank that has work is what makes it come; beyond that
// the core belongs to those who compute.
bool Patience::changes_soon(const Futex& word, uint32_t seen) const {
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

void Patience::wait(const Futex& word, uint32_t seen, Futex& sleepers) const {
  if (changes_soon(word, seen)) return;
  sleepers.fetch_add(1);
  if (word.load() == seen) futex_wait(word, seen, kSlice);
  sleepers.fetch_sub(1);
}

SharedGate::SharedGate(std::shared_ptr<SharedSegment> segment, int rank,
                       std::shared_ptr<FirstCause> cause, bool own_cores)
    : segment_(std::move(segment)), rank_(rank), cause_(std::move(cause)), patience_(own_cores) {}

void SharedGate::meet(const Operation& operation, Deadline deadline) {
  check_world();  // a rank that comes late must not complete a meeting that others have given up
  auto& header = segment_->header();
  ++meeting_;
  segment_->block(rank_).arrived.store(meeting_, std::memory_order_relaxed);
  const auto come = header.come.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (std::cmp_less(come, size())) return await(operation, deadline);
  header.come.store(0, std::memory_order_relaxed);
  header.meetings.store(meeting_);
  if (header.meeting_sleepers.load() > 0) futex_wake_all(header.meetings);
}

void SharedGate::await(const Operation& operation, Deadline deadline) {
  auto& header = segment_->header();
  while (header.meetings.load(std::memory_order_acquire) != meeting_) {
    patience_.wait(header.meetings, meeting_ - 1, header.meeting_sleepers);
    if (header.meetings.load(std::memory_order_acquire) == meeting_) return;
    check_world();
    for (int r = 0; r < size(); ++r) {
      check_peer(r, operation, [&] { return has_come(r); });
    }
    const auto missing = not_come();
    if (Clock::now() < deadline || missing.empty()) continue;
    throw CommError(timed_out(operation, rank_, size()) + "; not arrived: " + missing);
  }
}

bool SharedGate::has_come(int rank) const noexcept {
  const auto arrived = segment_->block(rank).arrived.load(std::memory_order_acquire);
  return static_cast<int32_t>(arrived - meeting_) >= 0;
}

std::string SharedGate::not_come() const {
  std::string list;
  int count = 0;
  for (int r = 0; r < size(); ++r) {
    if (has_come(r)) continue;
    list += (count++ == 0 ? " " : ", ") + std::to_string(r);
  }
  return count == 0 ? std::string() : (count == 1 ? "rank" : "ranks") + list;
}

void SharedGate::check_world() const {
  cause_->check();
  if (auto failure = segment_->failure(); !failure.empty()) throw CommError(failure);
  if (stopped()) throw CommError("the communicator was destroyed");
}

void SharedGate::check_peer(int peer, const Operation& operation,
                            const std::function<bool()>& came) const {
  if (came()) return;
  const auto& block = segment_->block(peer);
  const auto presence = block.presence.load(std::memory_order_acquire);
  const bool ended = presence == Presence::attached && has_ended(block.process);
  // What it did before it went counts; it may have come meanwhile.
  if ((presence == Presence::attached && !ended) || came()) return;
  if (ended) {
    throw CommError(detail::join(place(operation, rank_, size()), ": rank ", peer, " (pid ",
                                 block.process.pid, ") is gone (", operation.signature(), ")"));
  }
  throw CommError(detail::join(
      "rank ", peer, " of ", size(), " left before ", operation.name(), " (", operation.signature(),
      "): ",
      presence == Presence::left ? "its communicator was destroyed" : "an exception ended it"));
}

void SharedGate::stop() noexcept {
  stopped_.store(true);
  segment_->wake_all();
}

}  // namespace isobar
