// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "comm/control/message.hpp"

namespace isobar::control {

/// What the threads of a process have to tell rank 0, until its control thread takes
/// it. Nothing blocks but for a lock that is held for well under a microsecond (take()
/// swaps the lists under it).
class Reports {
 public:
  /// Calls beyond this wait for nobody: the oldest are forgotten.
  static constexpr size_t kMaxCalls = 1 << 16;

  void watch(const Watching& watching);
  /// `row_balance` is an all_to_all's, as it goes with Calls.
  void issued(uint64_t id, int64_t sequence, const Call& call,
              std::optional<uint64_t> row_balance = std::nullopt) noexcept;
  void unwatch(Unwatched unwatched);
  void add(ControlMessage message);

  /// True where something is there that does not wait for its turn: all but calls, and so many of
  /// those that some might be forgotten.
  bool is_urgent();

  /// All since the last time, in an order in which they make sense: one Report, or several of
  /// many calls, and what was added.
  std::vector<ControlMessage> take();

 private:
  struct Issued {
    uint64_t id;
    int64_t sequence;
    Call call;
    std::optional<uint64_t> row_balance;
  };

  std::mutex mutex_;
  std::vector<Watching> watching_;
  std::vector<Issued> issued_;
  std::vector<Unwatched> unwatched_;
  std::vector<ControlMessage> others_;
};

}  // namespace isobar::control
