// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comm/backend/first_cause.hpp"

namespace isobar {

/// What a world of threads shares with everything split from it: one lock, one
/// condition, one first cause, so that a failure anywhere wakes every waiter.
struct ThreadFamily {
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<FirstCause> cause = std::make_shared<FirstCause>();
  /// The cause is that a rank left; the others' errors only echo its own.
  bool cause_is_leaving = false;

  /// Records the cause and wakes everyone. The caller holds the mutex.
  bool fail(const std::string& message);
};

/// One operation that several ranks take part in: complete when all have come.
/// Guarded by the family's mutex, but for the exchange itself, which the last
/// rank does alone.
struct Meeting {
  explicit Meeting(std::vector<int> who);

  /// Who takes part, and what each has brought. All ranks for a collective,
  /// (sender, receiver) for a message.
  std::vector<int> ranks;
  std::vector<std::optional<Operation>> parts;
  size_t arrived = 0;
  bool done = false;

  bool is_full() const noexcept { return arrived == ranks.size(); }
  /// "rank 2", "ranks 1, 3": those who have not come.
  std::string missing() const;
};

/// Where the ranks of one communicator meet. Safe to use from several
/// threads; nothing here waits but ThreadWork::wait().
class ThreadGroup : public std::enable_shared_from_this<ThreadGroup> {
 public:
  ThreadGroup(std::shared_ptr<ThreadFamily> family, int size);

  int size() const noexcept { return size_; }
  ThreadFamily& family() const noexcept { return *family_; }

  /// Rank `rank` comes with its part; the last to come carries the operation out.
  Work join(int rank, Operation operation);

  /// Rank `rank` takes part in nothing more. Whoever waits for it fails.
  void leave(int rank, const std::string& reason);

  /// Like leave(), after an error: the whole family fails at once.
  void abort(int rank, const std::string& reason);

  /// The group that the `split`-th split makes for `color`; the first of its
  /// ranks to ask creates it.
  std::shared_ptr<ThreadGroup> child(int64_t split, int color, int size);

 private:
  using MeetingPtr = std::shared_ptr<Meeting>;

  MeetingPtr arrive(int rank, Operation operation);
  MeetingPtr find_collective(const Operation& operation);
  MeetingPtr find_message(int rank, const Operation& operation);
  void check_signature(const Meeting& meeting, int rank, const Operation& operation);
  void check_all_present(const Meeting& meeting);
  void carry_out(Meeting& meeting);

  std::shared_ptr<ThreadFamily> family_;
  int size_;
  // All below are guarded by the family's mutex.
  std::map<int64_t, MeetingPtr> collectives_;
  /// By (source, destination, tag); those in a queue all wait for the same side.
  std::map<std::array<int, 3>, std::deque<MeetingPtr>> messages_;
  /// Why a rank has left; empty while it is there.
  std::vector<std::string> left_;
  struct Child {
    std::shared_ptr<ThreadGroup> group;
    int asked = 0;
  };
  std::map<std::pair<int64_t, int>, Child> children_;
};

}  // namespace isobar
