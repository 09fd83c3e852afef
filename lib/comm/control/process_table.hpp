// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace isobar::control {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using Milliseconds = std::chrono::milliseconds;

/// Where a rank runs.
struct Process {
  std::string host;
  int64_t pid = 0;

  static void fields(auto& process, auto&& visit) { visit(process.host, process.pid); }
};

/// "n3 (pid 123)".
std::string to_string(const Process& process);

/// More names than this help nobody: a node or a switch went.
inline constexpr size_t kMostNamed = 8;

/// Who the ranks of the world are, and the sentences in which every rank must say
/// the same of them.
class ProcessTable {
 public:
  ProcessTable() = default;
  explicit ProcessTable(std::vector<Process> processes) : processes_(std::move(processes)) {}

  /// Of a world of `size` of which only rank 0 is known, as it is on the other ranks.
  static ProcessTable of_rank_0(Process rank_0, int size);

  int size() const noexcept { return static_cast<int>(processes_.size()); }

  /// "rank 2 of 4 on n3 (pid 123)"; several are joined by commas.
  std::string name(int rank) const;
  std::string names(const std::vector<int>& ranks) const;

  /// "rank 2 of 4 on n3 (pid 123) is gone: its control connection closed".
  std::string gone(const std::vector<int>& ranks) const;
  /// "... has been silent for 10 s (stopped, swapped out or cut off)".
  std::string silent(const std::vector<int>& ranks, Milliseconds limit) const;
  /// "... does not answer (stopped, swapped out or cut off)".
  std::string unanswering(const std::vector<int>& ranks) const;
  /// "... left before allreduce #41: an exception ended it".
  std::string left_before(int rank, const std::string& what, const std::string& reason) const;

 private:
  std::vector<Process> processes_;
};

}  // namespace isobar::control
