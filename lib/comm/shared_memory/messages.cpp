// SPDX-License-Identifier: Apache-2.0
// Whoever waits for a message moves bytes, for all messages of this rank; the member's thread does
// while nobody waits. All of it happens under the mutex, but for the sleep. The doorbell is read
// before the rings are looked at, and the sleep ends when it has changed since: a peer that rings
// in between is not missed. A receiver takes a message out of its ring whether it is wanted or not,
// so no sender waits for a receive that comes later.
#include "comm/shared_memory/messages.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <exception>
#include <utility>

#include "comm/backend/element_type.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/shared_memory/exchange.hpp"

namespace isobar {
namespace {

using Clock = std::chrono::steady_clock;

/// Who looked so recently is awake; it may take this long to name who holds it up.
constexpr auto kFresh = 3 * kSlice;
constexpr auto kGrace = 8 * kSlice;

int64_t in_ns(std::chrono::nanoseconds time) { return time.count(); }

bool is_send(const Operation& operation) { return operation.kind == OperationKind::send; }

}  // namespace

class SharedMessages::MessageWork final : public WorkState {
 public:
  MessageWork(std::shared_ptr<SharedMessages> messages, JobPtr job)
      : messages_(std::move(messages)), job_(std::move(job)) {}

  bool is_completed() const override {
    const std::lock_guard lock(messages_->mutex_);
    return job_->done || messages_->cause_->failed();
  }
  void wait() override { messages_->wait(job_); }
  void synchronize() override { messages_->wait(job_); }

 private:
  std::shared_ptr<SharedMessages> messages_;
  JobPtr job_;
};

SharedMessages::SharedMessages(std::shared_ptr<SharedBarrier> barrier,
                               std::shared_ptr<FirstCause> cause)
    : barrier_(std::move(barrier)), cause_(std::move(cause)) {
  auto& segment = barrier_->segment();
  const int own = barrier_->rank();
  for (int r = 0; r < barrier_->size(); ++r) {
    peers_.emplace_back(RingEnd(segment.ring(own, r), segment.ring_bytes()),
                        RingEnd(segment.ring(r, own), segment.ring_bytes()));
  }
}

Work SharedMessages::push(Operation operation) {
  const auto job = std::make_shared<Job>();
  job->deadline = Clock::now() + operation.timeout;
  job->operation = std::move(operation);
  auto& peer = peers_[job->operation.peer];
  const Lock lock(mutex_);
  ++pending_;
  // What can go at once goes here: a short message then costs no other thread.
  try {
    if (is_send(job->operation)) {
      peer.sends.push_back(job);
    } else if (!take_unexpected(peer, job)) {
      peer.receives[job->operation.tag].push_back(job);
    }
    progress();
  } catch (const std::exception& error) {
    fail(error.what());
  }
  if (pending_ > 0 && waiters_ == 0) wanted_.notify_one();
  return Work(std::make_shared<MessageWork>(shared_from_this(), job));
}

bool SharedMessages::has_pending() const {
  const std::lock_guard lock(mutex_);
  return pending_ > 0;
}

bool SharedMessages::is_over(const Job& job) const {
  return job.done || !failure_.empty() || cause_->failed();
}

void SharedMessages::wait(const JobPtr& job) {
  // While anyone waits, the member's thread sleeps; the last waiter to go hands the rest back to
  // it.
  Lock lock(mutex_);
  ++waiters_;
  while (!is_over(*job)) step(lock);
  --waiters_;
  if (pending_ > 0 && waiters_ == 0) wanted_.notify_one();
  if (job->done) return;
  const auto failure = failure_;
  lock.unlock();
  cause_->fail(failure);
}

void SharedMessages::run() {
  Lock lock(mutex_);
  const auto is_wanted = [this] {
    return (pending_ > 0 && waiters_ == 0) || closed_ || !failure_.empty() || cause_->failed();
  };
  // Nothing moves after a failure: who waits sees it under the lock and leaves, and so does this.
  while (failure_.empty() && !cause_->failed()) {
    wanted_.wait(lock, is_wanted);
    if (closed_ && pending_ == 0) return;
    if (pending_ > 0 && failure_.empty()) step(lock);
  }
  const auto failure = failure_;
  lock.unlock();
  if (!failure.empty() && !barrier_->stopped()) cause_->suspect(failure);
}

/// Moves what can be moved; if that is nothing, sleeps until the doorbell rings.
void SharedMessages::step(Lock& lock) {
  auto& own = barrier_->segment().block(barrier_->rank());
  const auto bell = own.doorbell.load(std::memory_order_acquire);
  try {
    const bool moved = progress();
    barrier_->check_world();
    if (Clock::now() > next_check_) check_pending();
    if (moved) return;
  } catch (const std::exception& error) {
    return fail(error.what());
  }
  lock.unlock();
  barrier_->spin_then_sleep().wait(own.doorbell, bell, own.doorbell_sleepers);
  lock.lock();
}

// A message that does not fit what it was asked into has begun to arrive there: nothing of it may
// follow, on no thread.
bool SharedMessages::progress() {
  if (!failure_.empty()) return false;
  bool moved = false;
  for (size_t r = 0; r < peers_.size(); ++r) {
    if (std::cmp_equal(r, barrier_->rank())) continue;
    bool moved_here = send_some(peers_[r]);
    moved_here |= receive_some(peers_[r]);
    if (moved_here) barrier_->segment().ring_doorbell(static_cast<int>(r));
    moved |= moved_here;
  }
  return moved;
}

bool SharedMessages::send_some(Peer& peer) {
  bool moved = false;
  while (!peer.sends.empty()) {
    const auto job = peer.sends.front();
    const auto& input = job->operation.input;
    const Header header{job->operation.tag, static_cast<int32_t>(input.scalar_type()),
                        input.numel(), byte_count(input)};
    constexpr auto kHeader = static_cast<int64_t>(sizeof(Header));
    const auto before = peer.sent;
    // A header goes whole or not at all, the bytes behind it as there is room.
    if (peer.sent == 0) {
      if (peer.out.room() < kHeader) return moved;
      peer.sent = peer.out.put(&header, kHeader);
    }
    const auto done = peer.sent - kHeader;
    peer.sent += peer.out.put(bytes_of(input) + done, header.bytes - done);
    moved |= peer.sent > before;
    if (peer.sent < kHeader + header.bytes) return moved;
    peer.sent = 0;
    peer.sends.pop_front();
    finish(job);
  }
  return moved;
}

bool SharedMessages::receive_some(Peer& peer) {
  bool moved = false;
  while (peer.arriving || begin_message(peer)) {
    auto* to = peer.job ? bytes_of(peer.job->operation.output) : peer.bytes.get();
    const auto taken = peer.in.take(to + peer.received, peer.header.bytes - peer.received);
    peer.received += taken;
    moved |= taken > 0;
    if (peer.received < peer.header.bytes) return moved;
    end_message(peer);
    moved = true;
  }
  return moved;
}

bool SharedMessages::begin_message(Peer& peer) {
  constexpr auto kHeader = static_cast<int64_t>(sizeof(Header));
  if (peer.in.filled() < kHeader) return false;
  peer.in.take(&peer.header, kHeader);
  peer.arriving = true;
  peer.received = 0;
  // The sender may wait for room: its message is taken in whether or not it is wanted yet.
  auto& receives = peer.receives[peer.header.tag];
  if (receives.empty()) {
    peer.bytes = std::make_unique_for_overwrite<char[]>(static_cast<size_t>(peer.header.bytes));
    return true;
  }
  peer.job = receives.front();
  receives.pop_front();
  check(peer.job->operation, peer.header);
  return true;
}

void SharedMessages::end_message(Peer& peer) {
  peer.arriving = false;
  if (peer.job) return finish(std::exchange(peer.job, nullptr));
  auto& receives = peer.receives[peer.header.tag];
  peer.unexpected[peer.header.tag].push_back({peer.header, std::move(peer.bytes)});
  if (receives.empty()) return;
  // It was asked for while it arrived.
  const auto job = receives.front();
  receives.pop_front();
  take_unexpected(peer, job);
}

bool SharedMessages::take_unexpected(Peer& peer, const JobPtr& job) {
  const auto found = peer.unexpected.find(job->operation.tag);
  if (found == peer.unexpected.end() || found->second.empty()) return false;
  const auto message = std::move(found->second.front());
  found->second.pop_front();
  check(job->operation, message.header);
  copy_bytes(bytes_of(job->operation.output), message.bytes.get(), message.header.bytes);
  finish(job);
  return true;
}

void SharedMessages::finish(const JobPtr& job) {
  job->done = true;
  job->operation.input = at::Tensor();
  job->operation.output = at::Tensor();
  --pending_;
  // Its waiter may sleep on the same bell as those that wait for bytes.
  if (waiters_ > 0) barrier_->segment().ring_doorbell(barrier_->rank());
}

void SharedMessages::check(const Operation& operation, const Header& header) const {
  const auto& output = operation.output;
  const auto type = static_cast<at::ScalarType>(header.type);
  if (type == output.scalar_type() && header.elements == output.numel()) return;
  throw CommError(detail::join("message from rank ", operation.peer, " to rank ", barrier_->rank(),
                               " tag ", operation.tag, ": sent send ", type_name(type), "[",
                               header.elements, "], wanted ", operation.signature()));
}

// Once a slice at most: whether a process lives is read from a file.
void SharedMessages::check_pending() {
  const auto now = Clock::now();
  next_check_ = now + kSlice;
  barrier_->segment()
      .block(barrier_->rank())
      .looked_ns.store(in_ns(now.time_since_epoch()), std::memory_order_relaxed);
  for (const auto& peer : peers_) {
    for (const auto& job : peer.sends) check_job(peer, *job);
    if (peer.job) check_job(peer, *peer.job);
    for (const auto& [tag, receives] : peer.receives) {
      for (const auto& job : receives) check_job(peer, *job);
    }
  }
}

void SharedMessages::check_job(const Peer& peer, const Job& job) const {
  const auto& operation = job.operation;
  barrier_->check_peer(operation.peer, operation, [&] {
    return is_send(operation) ? peer.out.room() > 0 : peer.in.filled() > 0;
  });
  const auto now = Clock::now();
  if (now < job.deadline) return;
  // A peer that waits for messages itself is held up by another, which it may name.
  const auto& block = barrier_->segment().block(operation.peer);
  const auto silence =
      in_ns(now.time_since_epoch()) - block.looked_ns.load(std::memory_order_relaxed);
  if (silence < in_ns(kFresh) && now < job.deadline + kGrace) return;
  throw CommError(timed_out(operation, barrier_->rank(), barrier_->size()) +
                  "; not arrived: rank " + std::to_string(operation.peer));
}

void SharedMessages::fail(const std::string& failure) {
  if (!failure_.empty()) return;
  failure_ = failure;
  wanted_.notify_all();
}

bool SharedMessages::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  wanted_.notify_all();
  return pending_ == 0 || !failure_.empty() || cause_->failed();
}

void SharedMessages::wake() {
  const std::lock_guard lock(mutex_);
  wanted_.notify_all();
}

}  // namespace isobar
