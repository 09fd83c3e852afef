// SPDX-License-Identifier: Apache-2.0
#include "comm/control/roster.hpp"

#include <isobar/core/error.hpp>

#include "comm/backend.hpp"

namespace isobar::control {
namespace {

/// More names than this help nobody: a node or a switch went.
constexpr size_t kNamed = 8;

template <typename Name>
std::string list(const std::vector<int>& ranks, const Name& name) {
  std::string text;
  for (size_t i = 0; i < ranks.size() && i < kNamed; ++i) {
    text += (i ? ", " : "") + name(ranks[i]);
  }
  if (ranks.size() > kNamed) text += detail::join(" and ", ranks.size() - kNamed, " more");
  return text;
}

constexpr auto kOutOfReach = " (stopped, swapped out or cut off)";

}  // namespace

std::string to_string(const Process& process) {
  return detail::join(process.host, " (pid ", process.pid, ")");
}

std::string rank_list(const std::vector<int>& ranks) {
  const auto numbers = list(ranks, [](int rank) { return std::to_string(rank); });
  return (ranks.size() == 1 ? "rank " : "ranks ") + numbers;
}

std::string Roster::name(int rank) const {
  return detail::join("rank ", rank, " of ", size(), " on ", to_string(processes_.at(rank)));
}

std::string Roster::names(const std::vector<int>& ranks) const {
  return list(ranks, [this](int rank) { return name(rank); });
}

std::string Roster::gone(const std::vector<int>& ranks) const {
  return names(ranks) + (ranks.size() == 1 ? " is gone: its control connection closed"
                                           : " are gone: their control connections closed");
}

std::string Roster::silent(const std::vector<int>& ranks, Milliseconds limit) const {
  return detail::join(names(ranks), ranks.size() == 1 ? " has" : " have", " been silent for ",
                      in_words(limit), kOutOfReach);
}

std::string Roster::unanswering(const std::vector<int>& ranks) const {
  return detail::join(names(ranks), ranks.size() == 1 ? " does" : " do", " not answer",
                      kOutOfReach);
}

std::string Roster::left_before(int rank, const std::string& what,
                                const std::string& reason) const {
  return detail::join(name(rank), " left before ", what, reason.empty() ? "" : ": ", reason);
}

}  // namespace isobar::control
