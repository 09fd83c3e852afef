// SPDX-License-Identifier: Apache-2.0
#include "comm/control/process_table.hpp"

#include <isobar/core/error.hpp>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/rank_list.hpp"

namespace isobar::control {
namespace {

constexpr auto kOutOfReach = " (stopped, swapped out or cut off)";

}  // namespace

std::string to_string(const Process& process) {
  return detail::join(process.host, " (pid ", process.pid, ")");
}

ProcessTable ProcessTable::of_rank_0(Process rank_0, int size) {
  std::vector<Process> processes(static_cast<size_t>(size));
  processes.front() = std::move(rank_0);
  return ProcessTable(std::move(processes));
}

std::string ProcessTable::name(int rank) const {
  return detail::join("rank ", rank, " of ", size(), " on ", to_string(processes_.at(rank)));
}

std::string ProcessTable::names(const std::vector<int>& ranks) const {
  return names_of(
      ranks, [this](int rank) { return name(rank); }, kMostNamed);
}

std::string ProcessTable::gone(const std::vector<int>& ranks) const {
  return names(ranks) + (ranks.size() == 1 ? " is gone: its control connection closed"
                                           : " are gone: their control connections closed");
}

std::string ProcessTable::silent(const std::vector<int>& ranks, Milliseconds limit) const {
  return detail::join(names(ranks), ranks.size() == 1 ? " has" : " have", " been silent for ",
                      in_words(limit), kOutOfReach);
}

std::string ProcessTable::unanswering(const std::vector<int>& ranks) const {
  return detail::join(names(ranks), ranks.size() == 1 ? " does" : " do", " not answer",
                      kOutOfReach);
}

std::string ProcessTable::left_before(int rank, const std::string& what,
                                      const std::string& reason) const {
  return detail::join(name(rank), " left before ", what, reason.empty() ? "" : ": ", reason);
}

}  // namespace isobar::control
