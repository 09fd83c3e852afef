// SPDX-License-Identifier: Apache-2.0
// Used by Diagnosis on rank 0's control thread alone. A group's window holds the first report of
// each call from `base` on; all members have reported what was before, or it was dropped because
// one lags too far. Each report is compared with the first of its number, so two ranks that differ
// are found when the second of them reports. Only the earliest difference counts: what follows it
// is its consequence. Row counts, which differ by right, are added up, and judged when a call
// leaves the window because all have reported it. The second half puts all this into words; every
// rank gets the same ones.
#include "comm/control/call_log.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "comm/backend/rank_list.hpp"
#include "comm/control/row_balance.hpp"

namespace isobar::control {
namespace {

constexpr auto kRule = "; all ranks must issue the same collectives in the same order";

/// One that had issued `from` calls has issued `to`.
void move_count(std::map<int64_t, size_t>& counts, int64_t from, int64_t to) {
  if (from == to) return;
  const auto old = counts.find(from);
  if (--old->second == 0) counts.erase(old);
  ++counts[to];
}

bool is_all_to_all(const Call& call) {
  return call.kind == static_cast<uint8_t>(OperationKind::all_to_all);
}

/// The ranks that call the same.
struct Party {
  std::string call;
  std::vector<int> ranks;
};

void add_to(std::vector<Party>& parties, const std::string& call, int rank) {
  const auto found = std::find_if(parties.begin(), parties.end(),
                                  [&](const Party& party) { return party.call == call; });
  if (found != parties.end()) {
    found->ranks.push_back(rank);
  } else {
    parties.push_back({call, {rank}});
  }
}

/// " (rank 2 differs from the 3 others)" where most ranks agree.
std::string who_differs(const std::vector<Party>& parties) {
  size_t all = 0;
  size_t most = 0;
  for (size_t i = 0; i < parties.size(); ++i) {
    all += parties[i].ranks.size();
    if (parties[i].ranks.size() > parties[most].ranks.size()) most = i;
  }
  const auto majority = parties[most].ranks.size();
  if (2 * majority <= all) return {};
  std::vector<int> others;
  for (size_t i = 0; i < parties.size(); ++i) {
    if (i != most) others.insert(others.end(), parties[i].ranks.begin(), parties[i].ranks.end());
  }
  std::sort(others.begin(), others.end());
  return detail::join(" (", rank_list(others, kMostNamed),
                      others.size() == 1 ? " differs" : " differ", " from the ", majority,
                      " others)");
}

}  // namespace

CallLog::CallLog(const ProcessTable& processes)
    : processes_(processes), groups_of_(static_cast<size_t>(processes.size())) {}

CallLog::Member* CallLog::find_member(Group& group, int rank) {
  const auto found = group.places.find(rank);
  return found == group.places.end() ? nullptr : &group.members[found->second];
}

void CallLog::watch(int rank, const Watching& watching) {
  const bool is_sane = watching.size > 0 && watching.size <= processes_.size() &&
                       watching.rank >= 0 && watching.rank < watching.size;
  if (!is_sane) return;
  // Members report in any order. One that has not counts as having issued nothing.
  auto& group = groups_[watching.id];
  if (group.members.empty()) {
    group.members.resize(static_cast<size_t>(watching.size));
    group.counts[0] = group.members.size();
    if (is_world(group)) worlds_.insert(watching.id);
  }
  const bool fits = std::cmp_equal(group.members.size(), watching.size) &&
                    group.members[static_cast<size_t>(watching.rank)].rank < 0 &&
                    !group.places.contains(rank);
  // Two communicators of one number cannot be told apart: better no watch than a false alarm.
  if (!fits) return forget(watching.id);
  group.members[static_cast<size_t>(watching.rank)].rank = rank;
  group.places[rank] = static_cast<size_t>(watching.rank);
  groups_of_[static_cast<size_t>(rank)].push_back(watching.id);
}

void CallLog::issued(int rank, const Calls& calls) {
  const auto found = groups_.find(calls.id);
  auto* member = found == groups_.end() ? nullptr : find_member(found->second, rank);
  if (!member || calls.calls.empty() || calls.first < 0) return;
  auto& group = found->second;
  const auto before = member->count;
  // A gap, or a number a second time: those sums stay incomplete.
  if (calls.first != before)
    group.rows_from = std::max({group.rows_from, calls.first, member->count});
  auto rows = calls.row_balances.begin();
  for (auto sequence = calls.first; const auto& call : calls.calls) {
    const bool has_rows = is_all_to_all(call) && rows != calls.row_balances.end();
    compare(group, *member, sequence++, {call, has_rows ? *rows++ : 0});
    member->count = std::max(member->count, sequence);
  }
  move_count(group.counts, before, member->count);
  member->last = calls.calls.back();
  last_[rank] = {calls.id, member->count - 1, calls.calls.back()};
  trim(group);
  if (group.dissenters.empty()) {
    dissenting_.erase(calls.id);
  } else {
    dissenting_.insert(calls.id);
  }
  suspect(calls.id, group);
}

/// A call that the backend refused is none: the next one has its number.
void CallLog::correct(Group& group, const Member& by, int64_t sequence, const Call& call) {
  // This one is among them: its count moves in group.counts once all its calls are in.
  const auto reports = std::count_if(group.members.begin(), group.members.end(),
                                     [&](const Member& m) { return m.count > sequence; });
  if (reports == 1) group.window[static_cast<size_t>(sequence - group.base)].call = call;
  if (sequence == group.dissent_at && call == group.agreed) group.dissenters.erase(by.rank);
}

void CallLog::compare(Group& group, const Member& by, int64_t sequence, const Entry& reported) {
  const auto& call = reported.call;
  if (sequence < group.base) return;
  if (sequence < by.count) return correct(group, by, sequence, call);
  const auto index = static_cast<size_t>(sequence - group.base);
  if (index > group.window.size()) {  // this rank itself could not report all
    group.window.clear();
    group.base = sequence;
    group.has_dropped = true;
  }
  if (index >= group.window.size()) {
    group.window.push_back(reported);
    return;
  }
  group.window[index].rows += reported.rows;
  const auto& agreed = group.window[index].call;
  // Of the earliest difference all dissenters are kept, to say who agrees with whom.
  const bool is_late = !group.dissenters.empty() && sequence > group.dissent_at;
  if (call == agreed || is_late) return;
  if (sequence != group.dissent_at) group.dissenters.clear();
  group.dissent_at = sequence;
  group.agreed = agreed;
  group.dissenters[by.rank] = call;
}

/// What all have reported has been compared. Beyond kWindow, memory counts for more than a
/// comparison with whoever lags so far.
void CallLog::trim(Group& group) {
  const auto slowest = group.counts.begin()->first;
  while (!group.window.empty() && group.base < slowest) {
    check_rows(group, group.window.front(), group.base);
    group.window.pop_front();
    ++group.base;
  }
  while (group.window.size() > kWindow) {
    group.window.pop_front();
    ++group.base;
    group.has_dropped = true;
  }
}

void CallLog::check_rows(const Group& group, const Entry& entry, int64_t sequence) {
  if (entry.rows != 0 && sequence >= group.rows_from && !row_mismatch_)
    row_mismatch_ = row_mismatch_of(group, entry, sequence);
}

void CallLog::unwatch(int rank, const Unwatched& unwatched) {
  const auto found = groups_.find(unwatched.id);
  auto* member = found == groups_.end() ? nullptr : find_member(found->second, rank);
  if (!member || member->left) return;
  member->left = unwatched.reason;
  ++found->second.left;
  is_over(found->second) ? forget(unwatched.id) : suspect(unwatched.id, found->second);
}

void CallLog::left(int rank, const std::string& reason) {
  left_[rank] = reason;
  const auto ids = groups_of_[static_cast<size_t>(rank)];  // some are forgotten on the way
  for (const auto id : ids) unwatch(rank, {.id = id, .reason = reason});
  for (const auto id : worlds_) suspect(id, groups_.at(id));
}

/// One that left after fewer calls than another issued is evidence, and stays.
bool CallLog::is_over(const Group& group) const {
  return group.left == group.members.size() && group.counts.size() == 1 && group.dissenters.empty();
}

void CallLog::forget(uint64_t id) {
  for (const auto& [rank, place] : groups_.at(id).places) {
    std::erase(groups_of_[static_cast<size_t>(rank)], id);
  }
  groups_.erase(id);
  worlds_.erase(id);
  dissenting_.erase(id);
  suspect_.erase(id);
}

/// Where nobody has left, or all have come as far, nobody can have left too early.
void CallLog::suspect(uint64_t id, const Group& group) {
  const bool has_leavers = group.left > 0 || (is_world(group) && !left_.empty());
  if (has_leavers && group.counts.size() > 1) {
    suspect_.insert(id);
  } else {
    suspect_.erase(id);
  }
}

std::vector<int> CallLog::ranks_of(const Group& group) {
  std::vector<int> ranks;
  for (const auto& member : group.members) {
    if (member.rank >= 0) ranks.push_back(member.rank);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

bool CallLog::is_world(const Group& group) const {
  return std::cmp_equal(group.members.size(), processes_.size());
}

/// Of the world alone it is known who should be there: a rank that never watched it has issued
/// nothing on it.
std::vector<int> CallLog::absent_from(const Group& group) const {
  std::vector<int> absent;
  if (!is_world(group)) return absent;
  const auto there = ranks_of(group);
  for (int rank = 0; rank < processes_.size(); ++rank) {
    if (!std::binary_search(there.begin(), there.end(), rank)) absent.push_back(rank);
  }
  return absent;
}

std::vector<Progress> CallLog::progress_of(int rank) const {
  std::vector<Progress> progress;
  for (const auto id : groups_of_[static_cast<size_t>(rank)]) {
    const auto& group = groups_.at(id);
    progress.push_back({.id = id, .count = group.members[group.places.at(rank)].count});
  }
  return progress;
}

std::string CallLog::where(const Group& group) const {
  if (is_world(group)) return {};
  return detail::join(" of the communicator of ", rank_list(ranks_of(group), kMostNamed));
}

/// The call as far as it is known: some rank may have reported more than is kept.
std::string CallLog::name_at(const Group& group, int64_t sequence) const {
  const auto index = sequence - group.base;
  const bool is_kept = index >= 0 && std::cmp_less(index, group.window.size());
  if (!is_kept) return detail::join("collective #", sequence, where(group));
  const auto& call = group.window[static_cast<size_t>(index)].call;
  return detail::join(name(call, sequence), where(group), " (", signature(call), ")");
}

/// Where the calls themselves differ, so do the sums of their rows.
std::optional<std::string> CallLog::mismatch() const {
  for (const auto id : dissenting_) {
    const auto& group = groups_.at(id);
    if (!group.dissenters.empty()) return mismatch_of(group);
  }
  return row_mismatch_;
}

/// Once all have come as far, nobody can change who agrees with whom, and waiting tells no more.
bool CallLog::is_mismatch_complete() const {
  if (row_mismatch_) return true;
  return std::any_of(dissenting_.begin(), dissenting_.end(), [this](uint64_t id) {
    const auto& group = groups_.at(id);
    return !group.dissenters.empty() && group.counts.begin()->first > group.dissent_at;
  });
}

std::string CallLog::mismatch_of(const Group& group) const {
  std::vector<Party> parties;
  for (const int rank : ranks_of(group)) {
    const auto member = std::find_if(group.members.begin(), group.members.end(),
                                     [rank](const Member& m) { return m.rank == rank; });
    const auto dissenter = group.dissenters.find(rank);
    if (dissenter != group.dissenters.end()) {
      add_to(parties, signature(dissenter->second), rank);
    } else if (member->count > group.dissent_at) {
      add_to(parties, signature(group.agreed), rank);
    }
  }
  return detail::join("collective #", group.dissent_at, where(group), ": rank ",
                      parties[0].ranks[0], " of ", processes_.size(), " calls '", parties[0].call,
                      "', rank ", parties.back().ranks[0], " calls '", parties.back().call, "'",
                      who_differs(parties), kRule);
}

std::string CallLog::row_mismatch_of(const Group& group, const Entry& entry,
                                     int64_t sequence) const {
  const auto size = static_cast<int>(group.members.size());
  const auto found = find_row_difference(entry.rows, sequence, size);
  const auto what = name_at(group, sequence);
  if (!found) {
    return what +
           ": row counts differ: what ranks send (input_rows) is not what others expect "
           "(output_rows); with comm.backend mpi the transport names two of them";
  }
  const auto rank = [&](int member) { return group.members[static_cast<size_t>(member)].rank; };
  const auto rows = std::abs(found->rows);
  return detail::join(what, ": rank ", rank(found->from), " of ", processes_.size(), " sends ",
                      rows, rows == 1 ? " row " : " rows ", found->rows > 0 ? "more" : "fewer",
                      " to rank ", rank(found->to),
                      " than that expects; the one's input_rows and the other's output_rows must "
                      "agree");
}

/// Who left after fewer calls than another has issued will not come to the rest.
std::optional<std::string> CallLog::left_before_of(const Group& group) const {
  const auto all = farthest(group);
  for (const auto& member : group.members) {
    if (!member.left || member.count == all) continue;
    return processes_.left_before(member.rank, name_at(group, member.count), *member.left);
  }
  if (all == 0) return std::nullopt;
  for (const int rank : absent_from(group)) {
    const auto found = left_.find(rank);
    if (found != left_.end()) return processes_.left_before(rank, name_at(group, 0), found->second);
  }
  return std::nullopt;
}

std::optional<std::string> CallLog::left_before() const {
  for (const auto id : suspect_) {
    if (auto text = left_before_of(groups_.at(id))) return text;
  }
  return std::nullopt;
}

std::vector<CallLog::Laggards> CallLog::laggards_of(const Group& group) const {
  const auto all = farthest(group);
  std::map<int64_t, Laggards> by_count;
  const auto add = [&](int rank, int64_t count, const std::optional<Call>& last) {
    if (count < all)
      by_count.try_emplace(count, Laggards{count, last, {}}).first->second.ranks.push_back(rank);
  };
  for (const auto& member : group.members) {
    if (member.rank >= 0) add(member.rank, member.count, member.last);
  }
  for (const int rank : absent_from(group)) add(rank, 0, std::nullopt);
  std::vector<Laggards> laggards;
  for (auto& [count, entry] : by_count) laggards.push_back(std::move(entry));
  return laggards;
}

std::string CallLog::behind_of(const Group& group) const {
  std::string text;
  for (auto& [count, last, ranks] : laggards_of(group)) {
    std::sort(ranks.begin(), ranks.end());
    const auto own = last ? name(*last, count - 1) : std::string("none");
    text += detail::join(text.empty() ? "" : ", ", name_at(group, count), " not called by ",
                         rank_list(ranks, kMostNamed), " (", ranks.size() == 1 ? "its" : "their",
                         " last: ", own, ")");
  }
  if (!text.empty() && group.has_dropped) text += ", too far behind for a comparison of all calls";
  return text;
}

std::string CallLog::behind() const {
  std::string text;
  for (const auto& [id, group] : groups_) {
    const auto one = behind_of(group);
    if (!one.empty()) text += (text.empty() ? "" : "; ") + one;
  }
  return text;
}

std::string CallLog::last_of(int rank) const {
  const auto found = last_.find(rank);
  if (found == last_.end()) return "none";
  const auto& last = found->second;
  const auto group = groups_.find(last.id);
  const auto whose = group == groups_.end() ? std::string() : where(group->second);
  return detail::join(name(last.call, last.sequence), whose, " (", signature(last.call), ")");
}

}  // namespace isobar::control
