// SPDX-License-Identifier: Apache-2.0
// What a Ledger says.
#include <isobar/core/error.hpp>

#include <algorithm>
#include <utility>

#include "comm/control/ledger.hpp"

namespace isobar::control {
namespace {

constexpr auto kRule = "; all ranks must issue the same collectives in the same order";

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
  return detail::join(" (", rank_list(others), others.size() == 1 ? " differs" : " differ",
                      " from the ", majority, " others)");
}

}  // namespace

std::string Ledger::where(const Group& group) const {
  if (is_world(group)) return {};
  return detail::join(" of the communicator of ", rank_list(ranks_of(group)));
}

/// The call as far as it is known: some rank may have reported more than is kept.
std::string Ledger::name_at(const Group& group, int64_t sequence) const {
  const auto place = sequence - group.base;
  const bool is_kept = place >= 0 && std::cmp_less(place, group.window.size());
  if (!is_kept) return detail::join("collective #", sequence, where(group));
  const auto& call = group.window[static_cast<size_t>(place)];
  return detail::join(name(call, sequence), where(group), " (", signature(call), ")");
}

std::optional<std::string> Ledger::mismatch() const {
  for (const auto& [id, group] : groups_) {
    if (!group.dissenters.empty()) return mismatch_of(group);
  }
  return std::nullopt;
}

bool Ledger::is_mismatch_complete() const {
  return std::any_of(groups_.begin(), groups_.end(), [](const auto& entry) {
    const auto& group = entry.second;
    return !group.dissenters.empty() &&
           std::all_of(group.members.begin(), group.members.end(),
                       [&](const Member& member) { return member.count > group.dissent_at; });
  });
}

std::string Ledger::mismatch_of(const Group& group) const {
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
                      parties[0].ranks[0], " of ", roster_.size(), " calls '", parties[0].call,
                      "', rank ", parties.back().ranks[0], " calls '", parties.back().call, "'",
                      who_differs(parties), kRule);
}

std::optional<std::string> Ledger::left_before_of(const Group& group) const {
  const auto all = farthest(group);
  for (const auto& member : group.members) {
    if (!member.left || member.count == all) continue;
    return roster_.left_before(member.rank, name_at(group, member.count), *member.left);
  }
  if (all == 0) return std::nullopt;
  for (const int rank : absent_from(group)) {
    const auto found = left_.find(rank);
    if (found != left_.end()) return roster_.left_before(rank, name_at(group, 0), found->second);
  }
  return std::nullopt;
}

std::optional<std::string> Ledger::left_before() const {
  for (const auto& [id, group] : groups_) {
    if (auto text = left_before_of(group)) return text;
  }
  return std::nullopt;
}

std::vector<Ledger::Laggards> Ledger::laggards_of(const Group& group) const {
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

std::string Ledger::behind_of(const Group& group) const {
  std::string text;
  for (auto& [count, last, ranks] : laggards_of(group)) {
    std::sort(ranks.begin(), ranks.end());
    const auto own = last ? name(*last, count - 1) : std::string("none");
    text += detail::join(text.empty() ? "" : ", ", name_at(group, count), " not called by ",
                         rank_list(ranks), " (", ranks.size() == 1 ? "its" : "their",
                         " last: ", own, ")");
  }
  if (!text.empty() && group.has_dropped) text += ", too far behind for a comparison of all calls";
  return text;
}

std::string Ledger::behind() const {
  std::string text;
  for (const auto& [id, group] : groups_) {
    const auto one = behind_of(group);
    if (!one.empty()) text += (text.empty() ? "" : "; ") + one;
  }
  return text;
}

std::string Ledger::last_of(int rank) const {
  const auto found = last_.find(rank);
  if (found == last_.end()) return "none";
  const auto& last = found->second;
  const auto group = groups_.find(last.id);
  const auto place = group == groups_.end() ? std::string() : where(group->second);
  return detail::join(name(last.call, last.sequence), place, " (", signature(last.call), ")");
}

}  // namespace isobar::control
