// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

namespace isobar {

/// What messages carry: over a network, or by the ranks' own copying inside a node.
struct MpiLoad {
  int64_t far_bytes = 0;
  int64_t near_bytes = 0;

  MpiLoad() = default;
  MpiLoad(int64_t bytes, bool one_node)
      : far_bytes(one_node ? 0 : bytes), near_bytes(one_node ? bytes : 0) {}
  void operator+=(const MpiLoad& more) {
    far_bytes += more.far_bytes;
    near_bytes += more.near_bytes;
  }
  void operator-=(const MpiLoad& less) {
    far_bytes -= less.far_bytes;
    near_bytes -= less.near_bytes;
  }
};

/// When the progress thread looks again. Ranks that share cores would lose what it
/// spins away, so it naps: shortly where an answer may come at any moment, longer
/// where the system has much to move meanwhile or nothing has happened for a while.
class MpiPace {
 public:
  /// Measures the surroundings; called once, on the progress thread.
  void begin();

  /// The first task after a rest: nothing is known of how it will go.
  void restart();

  /// Something has begun or completed.
  void moved();

  /// How long to sleep now, with so much under way; zero for not at all.
  std::chrono::microseconds nap(const MpiLoad& load) const;

 private:
  using Clock = std::chrono::steady_clock;

  bool spins_ = false;
  Clock::time_point last_moved_;
  /// Between two moves, averaged over the last few.
  Clock::duration gap_{0};
};

}  // namespace isobar
