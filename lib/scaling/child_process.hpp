// SPDX-License-Identifier: Apache-2.0
// A program that is run in a process group of its own, and ended with it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <csignal>

namespace isobar {

/// Keeps Ctrl-C, SIGTERM and SIGHUP from ending this process while it lives, so that they can be
/// waited for. For one at a time, in a process whose other threads do not take signals.
class HeldSignals {
 public:
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  /// Waits for a child's end or one of those for so long. The signal that came; 0 for none of them.
  int wait(double seconds);

  /// The signals that a child starts with.
  const sigset_t& before() const { return before_; }

 private:
  sigset_t held_{};
  sigset_t before_{};
};

struct ChildRun {
  std::vector<std::string> words;  ///< the program and its arguments; looked for on the PATH
  std::filesystem::path output;    ///< a file for all that it prints
  double limit_s = 0;
};

struct ChildEnd {
  int code = 0;  ///< 128 + signal where a signal ended it
  bool timed_out = false;
  int stopped_by = 0;  ///< the signal to this process for which it was ended; 0: none
};

/// Blocks until it has ended, or was ended together with its group: SIGTERM, ten seconds later
/// SIGKILL. It is told to end, too, where this process is killed. Throws UsageError where it cannot
/// be started.
ChildEnd run_child(const ChildRun& child, HeldSignals& signals);

/// Whether no child whose output went to that file goes on any more: one whose parent was killed
/// may still be ending its ranks. Waits for that for so long.
bool has_left(const std::filesystem::path& output, double seconds);

}  // namespace isobar
