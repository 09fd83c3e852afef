// SPDX-License-Identifier: Apache-2.0
// Each rank is a thread that comes here with its part; the last to come carries the operation out
// for all. The family's mutex guards everything but that: meanwhile the others only wait, and a
// full meeting is changed by nobody. Tensors are dropped before `done` is set, so that a rank that
// goes on owns its tensors alone.
#include "comm/threads/group.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <numeric>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/rank_list.hpp"
#include "comm/threads/exchange.hpp"

namespace isobar {
Meeting::Meeting(std::vector<int> who) : ranks(std::move(who)), parts(ranks.size()) {}

bool ThreadFamily::fail(const std::string& message) {
  const bool first = cause->record(message);
  changed.notify_all();
  return first;
}

std::string Meeting::missing() const {
  std::vector<int> absent;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (!parts[i]) absent.push_back(ranks[i]);
  }
  return rank_list(absent);
}

/// One rank's view of a meeting.
class ThreadWork final : public WorkState {
 public:
  ThreadWork(std::shared_ptr<ThreadGroup> group, std::shared_ptr<Meeting> meeting, int rank,
             std::chrono::milliseconds timeout)
      : group_(std::move(group)),
        meeting_(std::move(meeting)),
        rank_(rank),
        deadline_(std::chrono::steady_clock::now() + timeout) {}

  bool is_completed() const override {
    const std::lock_guard lock(group_->family().mutex);
    return has_ended();
  }

  void wait() override {
    auto& family = group_->family();
    std::unique_lock lock(family.mutex);
    family.changed.wait_until(lock, deadline_, [&] { return has_ended(); });
    // Where all have come, the last of them is computing, and that takes what it takes.
    if (meeting_->is_full()) family.changed.wait(lock, [&] { return has_ended(); });
    if (meeting_->done) return;
    if (!family.cause->failed()) family.fail(too_late());
    family.cause->check();
  }

  void synchronize() override { wait(); }

 private:
  bool has_ended() const { return meeting_->done || group_->family().cause->failed(); }

  std::string too_late() const {
    const auto own = std::find(meeting_->ranks.begin(), meeting_->ranks.end(), rank_);
    const auto& operation = *meeting_->parts[own - meeting_->ranks.begin()];
    return timed_out(operation, rank_, group_->size()) + "; not arrived: " + meeting_->missing();
  }

  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<Meeting> meeting_;
  int rank_;
  std::chrono::steady_clock::time_point deadline_;
};

ThreadGroup::ThreadGroup(std::shared_ptr<ThreadFamily> family, int size)
    : family_(std::move(family)), size_(size), left_(size) {}

Work ThreadGroup::join(int rank, Operation operation) {
  const auto timeout = operation.timeout;
  MeetingPtr meeting;
  bool is_last = false;
  {
    const std::lock_guard lock(family_->mutex);
    meeting = arrive(rank, std::move(operation));
    is_last = meeting->is_full() && !family_->cause->failed();
  }
  // Whoever comes last computes for all, at once: those before have returned, and wait in their
  // Work.
  auto work = std::make_shared<ThreadWork>(shared_from_this(), meeting, rank, timeout);
  if (is_last) carry_out(*meeting);
  return Work(std::move(work));
}

ThreadGroup::MeetingPtr ThreadGroup::arrive(int rank, Operation operation) {
  auto meeting = is_message(operation) ? find_message(rank, operation) : find_collective(operation);
  check_signature(*meeting, rank, operation);
  const auto own = std::find(meeting->ranks.begin(), meeting->ranks.end(), rank);
  meeting->parts[own - meeting->ranks.begin()] = std::move(operation);
  ++meeting->arrived;
  check_all_present(*meeting);
  return meeting;
}

// By number, since ranks need not be at the same call; the last to come takes the entry away.
ThreadGroup::MeetingPtr ThreadGroup::find_collective(const Operation& operation) {
  auto& entry = collectives_[operation.sequence];
  if (!entry) {
    std::vector<int> everyone(size_);
    std::iota(everyone.begin(), everyone.end(), 0);
    entry = std::make_shared<Meeting>(std::move(everyone));
  }
  const auto meeting = entry;
  if (meeting->arrived + 1 == meeting->ranks.size()) collectives_.erase(operation.sequence);
  return meeting;
}

// Either sends wait in a queue or receives: one that finds the other side takes the oldest of it.
ThreadGroup::MeetingPtr ThreadGroup::find_message(int rank, const Operation& operation) {
  const bool sends = operation.kind == OperationKind::send;
  const std::array pair{sends ? rank : operation.peer, sends ? operation.peer : rank};
  auto& queue = messages_[{pair[0], pair[1], operation.tag}];
  const size_t own = sends ? 0 : 1;
  if (queue.empty() || queue.front()->parts[own]) {
    queue.push_back(std::make_shared<Meeting>(std::vector<int>(pair.begin(), pair.end())));
    return queue.back();
  }
  const auto meeting = queue.front();
  queue.pop_front();
  return meeting;
}

void ThreadGroup::check_signature(const Meeting& meeting, int rank, const Operation& operation) {
  if (is_message(operation)) return;  // the two sides differ; exchange() compares them
  for (size_t other = 0; other < meeting.parts.size(); ++other) {
    if (!meeting.parts[other]) continue;
    const auto theirs = meeting.parts[other]->signature();
    const auto ours = operation.signature();
    if (theirs != ours) {
      family_->fail(detail::join("collective #", operation.sequence, ": rank ", other, " of ",
                                 size_, " calls '", theirs, "', rank ", rank, " calls '", ours,
                                 "'; all ranks must issue the same collectives in the same order"));
    }
    return;  // those who came before have been compared with each other
  }
}

// A rank that has left will not come: who waits for it hears so now, not after its limit.
void ThreadGroup::check_all_present(const Meeting& meeting) {
  for (size_t i = 0; i < meeting.ranks.size(); ++i) {
    const int rank = meeting.ranks[i];
    if (meeting.parts[i] || left_[rank].empty()) continue;
    const auto waiting = std::find_if(meeting.parts.begin(), meeting.parts.end(),
                                      [](const auto& part) { return part.has_value(); });
    if (waiting == meeting.parts.end()) continue;
    const bool first = family_->fail(detail::join("rank ", rank, " of ", size_, " left before ",
                                                  (*waiting)->name(), " (", (*waiting)->signature(),
                                                  "): ", left_[rank]));
    family_->cause_is_leaving |= first;
  }
}

void ThreadGroup::carry_out(Meeting& meeting) {
  std::vector<Operation> parts;
  for (auto& part : meeting.parts) parts.push_back(*part);
  // Without the lock: other meetings go on. This one is full, so nobody comes to it any more.
  std::string failure;
  try {
    exchange(parts);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  const std::lock_guard lock(family_->mutex);
  parts.clear();  // the tensors are their ranks' alone before these go on
  if (!failure.empty()) {
    family_->fail(failure);
    return;
  }
  meeting.done = true;
  for (auto& part : meeting.parts) part.reset();
  family_->changed.notify_all();
}

void ThreadGroup::leave(int rank, const std::string& reason) {
  const std::lock_guard lock(family_->mutex);
  if (!left_[rank].empty()) return;
  left_[rank] = reason;
  for (const auto& [sequence, meeting] : collectives_) check_all_present(*meeting);
  for (const auto& [key, queue] : messages_) {
    for (const auto& meeting : queue) check_all_present(*meeting);
  }
}

void ThreadGroup::abort(int rank, const std::string& reason) {
  const std::lock_guard lock(family_->mutex);
  left_[rank] = reason;
  family_->cause_is_leaving |=
      family_->fail(detail::join("rank ", rank, " of ", size_, " left: ", reason));
}

std::shared_ptr<ThreadGroup> ThreadGroup::child(int64_t split, int color, int size) {
  const std::lock_guard lock(family_->mutex);
  // The first to ask makes it, the last takes it off the list: a split's number is used once.
  auto& child = children_[{split, color}];
  if (!child.group) child.group = std::make_shared<ThreadGroup>(family_, size);
  const auto group = child.group;
  if (++child.asked == size) children_.erase({split, color});
  return group;
}

}  // namespace isobar
