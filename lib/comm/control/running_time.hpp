// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "comm/control/process_table.hpp"

namespace isobar::control {

/// A clock that goes only while its owner does, for limits on what others may take:
/// who was stopped, swapped out or starved has not listened meanwhile, and must not
/// call the others silent for it.
///
/// The owner reads it often. Between two readings it goes by `most` at most, however
/// much time passed: neither one long absence nor several short ones add up.
class RunningTime {
 public:
  RunningTime(Time start, Clock::duration most) : seen_(start), now_(start), most_(most) {}

  /// It is `time` by the clock on the wall.
  Time advance(Time time) {
    now_ += std::min(time - seen_, most_);
    seen_ = time;
    return now_;
  }

  /// As of the last advance(): the start and what its owner ran since then.
  Time now() const noexcept { return now_; }

 private:
  Time seen_;
  Time now_;
  Clock::duration most_;
};

}  // namespace isobar::control
