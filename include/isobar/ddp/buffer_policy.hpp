// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace isobar {

/// What happens to a module's buffers (running statistics and the like), which the
/// ranks change each for itself.
enum class BufferAction {
  /// Nothing: they stay each rank's own.
  none,
  /// The first replica's are copied to the others.
  broadcast,
  /// Their hashes are compared, and a difference is an error: for buffers that must
  /// stay equal by themselves. Buffers on a device are copied to the CPU to be hashed.
  compare
};

struct BufferPolicy {
  BufferAction action = BufferAction::none;
  /// At the end of every k-th step. Positive.
  int64_t every = 1;
};

/// What a DataParallel's policy has cost this rank.
struct BufferCounters {
  int64_t broadcasts = 0;
  int64_t comparisons = 0;
  double seconds = 0;  ///< in either, at the end of a step
};

}  // namespace isobar
