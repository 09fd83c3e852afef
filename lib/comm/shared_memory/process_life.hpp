// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace isobar {

/// A process of this node, told apart from a later one that got the same number.
/// Plain data, so that it can lie in shared memory.
struct ProcessId {
  int64_t pid = 0;
  /// When it started, in clock ticks since the node did.
  uint64_t start_ticks = 0;
  /// The PID namespace in which `pid` counts; 0 where it could not be read.
  uint64_t pid_namespace = 0;
};

ProcessId this_process();

/// True once `process` has ended, reaped or not. False where that cannot be known
/// from here: in another PID namespace (a container) its number means nothing.
bool has_ended(const ProcessId& process);

}  // namespace isobar
