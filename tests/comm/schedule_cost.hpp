// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <vector>

#include "comm/schedule/schedule.hpp"

namespace isobar::test {

/// What a collective takes: steps that wait for each other, and what the busiest rank sends.
struct ScheduleCost {
  int64_t steps = 0;
  int64_t messages = 0;
  int64_t bytes = 0;

  bool operator==(const ScheduleCost&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const ScheduleCost& cost) {
    return out << cost.steps << " steps, " << cost.messages << " messages, " << cost.bytes << " B";
  }
};

/// Finds the longest chain of messages of which each waits until the one before it has arrived. It
/// keeps of a message what that needs: a ring over thousands of ranks has millions.
class ChainOfMessages {
 public:
  void add_rank(const Schedule& schedule) {
    ranks_.push_back({links(schedule.sends), links(schedule.receives), 0, {0}});
  }

  /// Negative if the ranks do not come to their ends.
  int64_t longest() {
    std::vector<int> ready;
    for (int r = 0; r < static_cast<int>(ranks_.size()); ++r) ready.push_back(r);
    while (!ready.empty()) {
      const int rank = ready.back();
      ready.pop_back();
      while (deliver(rank)) {
        const auto& to = ranks_[ranks_[rank].sends[ranks_[rank].sent - 1].peer];
        if (to.arrived() < to.receives.size()) ready.push_back(to.receives[to.arrived()].peer);
        ready.push_back(ranks_[rank].sends[ranks_[rank].sent - 1].peer);
      }
    }
    int longest = 0;
    for (const auto& rank : ranks_) {
      if (rank.sent < rank.sends.size() || rank.arrived() < rank.receives.size()) return -1;
      longest = std::max(longest, rank.steps.back());
    }
    return longest;
  }

 private:
  struct Link {
    int peer;
    int after_arrived;
  };

  struct Rank {
    std::vector<Link> sends;
    std::vector<Link> receives;
    size_t sent = 0;
    /// Of the longest chain that ends in one of the first n receives.
    std::vector<int> steps;

    size_t arrived() const { return steps.size() - 1; }
  };

  static std::vector<Link> links(const std::vector<Message>& messages) {
    std::vector<Link> all;
    all.reserve(messages.size());
    for (const auto& each : messages) {
      all.push_back({each.peer, static_cast<int>(each.after_arrived)});
    }
    return all;
  }

  /// The next message of `from`, if it may go and its peer waits for it.
  bool deliver(int from) {
    auto& rank = ranks_[from];
    if (rank.sent == rank.sends.size()) return false;
    const auto& next = rank.sends[rank.sent];
    auto& to = ranks_[next.peer];
    if (static_cast<size_t>(next.after_arrived) > rank.arrived()) return false;
    if (to.arrived() == to.receives.size() || to.receives[to.arrived()].peer != from) return false;
    to.steps.push_back(std::max(to.steps.back(), 1 + rank.steps[next.after_arrived]));
    ++rank.sent;
    return true;
  }

  std::vector<Rank> ranks_;
};

/// The costs of a world, rank by rank.
class WorldCost {
 public:
  void add_rank(const Schedule& schedule) {
    int64_t bytes = 0;
    for (const auto& message : schedule.sends) bytes += message.bytes;
    most_.bytes = std::max(most_.bytes, bytes);
    most_.messages = std::max<int64_t>(most_.messages, std::ssize(schedule.sends));
    chain_.add_rank(schedule);
  }

  ScheduleCost total() {
    most_.steps = chain_.longest();
    return most_;
  }

 private:
  ScheduleCost most_;
  ChainOfMessages chain_;
};

/// Of an allreduce over `size` ranks; its values are not touched.
inline ScheduleCost cost_of(MakeSchedule make, const Operation& operation, int size) {
  WorldCost cost;
  for (int rank = 0; rank < size; ++rank) {
    cost.add_rank(make(operation, rank, size, ScheduleTuning()));
  }
  return cost.total();
}

/// The same of a ring whose parts are equally long, so that one rank stands for its neighbours:
/// thousands of ranks would take a test too long under a sanitizer.
inline ScheduleCost cost_of_even_ring(const Operation& operation, int size) {
  auto schedule = ring_schedule(operation, 0, size, ScheduleTuning());
  for (auto* messages : {&schedule.sends, &schedule.receives}) {
    for (auto& message : *messages) message.peer = 0;
  }
  WorldCost cost;
  cost.add_rank(schedule);
  return cost.total();
}

}  // namespace isobar::test
