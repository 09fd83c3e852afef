// SPDX-License-Identifier: Apache-2.0
// What becomes of communicators in a child that fork() makes. It has a copy of their memory, none
// of their threads, and may end by exit(): it must neither speak for the rank nor hold its
// connections, nor wait for what only the threads could do.
#pragma once

#include <sys/types.h>
#include <atomic>
#include <functional>

namespace isobar {

extern std::atomic<int> forks_seen;

/// How many times this process and those before it have been copied by fork() since the program
/// began. A load; vfork(), posix_spawn(), system() and popen() count for nothing.
inline int fork_depth() noexcept { return forks_seen.load(std::memory_order_relaxed); }

/// The process in which this was made.
class HomeProcess {
 public:
  HomeProcess();

  /// False in a child that has it by fork().
  bool is_here() const noexcept { return depth_ == fork_depth(); }
  pid_t pid() const noexcept { return pid_; }

 private:
  int depth_;
  pid_t pid_;
};

/// What `open` returns: a descriptor that children made by fork() do not keep, so that a helper
/// which outlives its rank does not hold the rank's connections open. No fork() falls between the
/// two. Negative values are handed on.
int open_unshared(const std::function<int()>& open);

/// Closes it, where it was opened; a child has none.
void close_unshared(int descriptor);

}  // namespace isobar
