// SPDX-License-Identifier: Apache-2.0
#include "comm/control/ledger.hpp"

#include <algorithm>
#include <utility>

namespace isobar::control {

Ledger::Ledger(const Roster& roster) : roster_(roster) {}

Ledger::Member* Ledger::find_member(Group& group, int rank) {
  const auto found = std::find_if(group.members.begin(), group.members.end(),
                                  [rank](const Member& member) { return member.rank == rank; });
  return found == group.members.end() ? nullptr : &*found;
}

void Ledger::watch(int rank, const Watching& watching) {
  const bool is_sane = watching.size > 0 && watching.size <= roster_.size() && watching.rank >= 0 &&
                       watching.rank < watching.size;
  if (!is_sane) return;
  auto& group = groups_[watching.id];
  if (group.members.empty()) group.members.resize(static_cast<size_t>(watching.size));
  const bool fits = std::cmp_equal(group.members.size(), watching.size) &&
                    group.members[static_cast<size_t>(watching.rank)].rank < 0;
  // Two communicators of one number cannot be told apart: better no watch than a false alarm.
  if (!fits) {
    groups_.erase(watching.id);
    return;
  }
  group.members[static_cast<size_t>(watching.rank)].rank = rank;
}

void Ledger::issued(int rank, const Calls& calls) {
  const auto found = groups_.find(calls.id);
  auto* member = found == groups_.end() ? nullptr : find_member(found->second, rank);
  if (!member || calls.calls.empty() || calls.first < 0) return;
  auto& group = found->second;
  for (auto sequence = calls.first; const auto& call : calls.calls) {
    compare(group, *member, sequence++, call);
    member->count = std::max(member->count, sequence);
  }
  member->last = calls.calls.back();
  last_[rank] = {calls.id, member->count - 1, calls.calls.back()};
  trim(group);
}

/// A call that the backend refused is none: the next one has its number.
void Ledger::correct(Group& group, const Member& by, int64_t sequence, const Call& call) {
  const auto reports = std::count_if(group.members.begin(), group.members.end(),
                                     [&](const Member& m) { return m.count > sequence; });
  if (reports == 1) group.window[static_cast<size_t>(sequence - group.base)] = call;
  if (sequence == group.dissent_at && call == group.agreed) group.dissenters.erase(by.rank);
}

void Ledger::compare(Group& group, const Member& by, int64_t sequence, const Call& call) {
  if (sequence < group.base) return;
  if (sequence < by.count) return correct(group, by, sequence, call);
  const auto place = static_cast<size_t>(sequence - group.base);
  if (place > group.window.size()) {  // this rank itself could not report all
    group.window.clear();
    group.base = sequence;
    group.has_dropped = true;
  }
  if (place >= group.window.size()) {
    group.window.push_back(call);
    return;
  }
  const auto& agreed = group.window[place];
  const bool is_late = !group.dissenters.empty() && sequence > group.dissent_at;
  if (call == agreed || is_late) return;
  if (sequence != group.dissent_at) group.dissenters.clear();
  group.dissent_at = sequence;
  group.agreed = agreed;
  group.dissenters[by.rank] = call;
}

void Ledger::trim(Group& group) {
  const auto slowest =
      std::min_element(group.members.begin(), group.members.end(),
                       [](const Member& a, const Member& b) { return a.count < b.count; });
  while (!group.window.empty() && group.base < slowest->count) {
    group.window.pop_front();
    ++group.base;
  }
  while (group.window.size() > kWindow) {
    group.window.pop_front();
    ++group.base;
    group.has_dropped = true;
  }
}

void Ledger::unwatch(int rank, const Unwatched& unwatched) {
  const auto found = groups_.find(unwatched.id);
  auto* member = found == groups_.end() ? nullptr : find_member(found->second, rank);
  if (!member || member->left) return;
  member->left = unwatched.reason;
  forget_if_over(unwatched.id);
}

void Ledger::left(int rank, const std::string& reason) {
  left_[rank] = reason;
  std::vector<uint64_t> ids;
  for (const auto& [id, group] : groups_) ids.push_back(id);
  for (const auto id : ids) unwatch(rank, {.id = id, .reason = reason});
}

void Ledger::forget_if_over(uint64_t id) {
  const auto& group = groups_.at(id);
  const bool is_over =
      std::all_of(group.members.begin(), group.members.end(), [&](const Member& member) {
        return member.left && member.count == group.members.front().count;
      });
  if (is_over && group.dissenters.empty()) groups_.erase(id);
}

int64_t Ledger::farthest(const Group& group) {
  int64_t count = 0;
  for (const auto& member : group.members) count = std::max(count, member.count);
  return count;
}

std::vector<int> Ledger::ranks_of(const Group& group) {
  std::vector<int> ranks;
  for (const auto& member : group.members) {
    if (member.rank >= 0) ranks.push_back(member.rank);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

bool Ledger::is_world(const Group& group) const {
  return std::cmp_equal(group.members.size(), roster_.size());
}

std::vector<int> Ledger::absent_from(const Group& group) const {
  std::vector<int> absent;
  if (!is_world(group)) return absent;
  const auto there = ranks_of(group);
  for (int rank = 0; rank < roster_.size(); ++rank) {
    if (!std::binary_search(there.begin(), there.end(), rank)) absent.push_back(rank);
  }
  return absent;
}

std::vector<Progress> Ledger::progress_of(int rank) const {
  std::vector<Progress> progress;
  for (const auto& [id, group] : groups_) {
    for (const auto& member : group.members) {
      if (member.rank == rank) progress.push_back({.id = id, .count = member.count});
    }
  }
  return progress;
}

}  // namespace isobar::control
