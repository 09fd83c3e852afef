// SPDX-License-Identifier: Apache-2.0
// How the processes of a job find each other.
#pragma once

#include <vector>

#include "comm/control/control.hpp"
#include "comm/control/door.hpp"
#include "comm/control/line.hpp"

namespace isobar::control {

/// A world that is complete.
struct Joined {
  Roster roster;
  /// On rank 0 the lines to the others by rank, its own closed; elsewhere one, to rank 0.
  std::vector<Line> lines;
  /// What rank 0 said since; empty on rank 0.
  std::vector<Message> early = {};
  /// This process's place in the roster.
  int rank = 0;
};

/// Rank 0's part: blocks until all have come. What goes wrong is thrown here and told
/// to all who come: UsageError where two call themselves one rank or sizes differ,
/// CommError naming those who have not come in time.
Joined receive_all(const ControlOptions& options, Door& door);

/// The others' part: tries rank 0's addresses in turn until its limit.
Joined join_rank_0(const ControlOptions& options);

}  // namespace isobar::control
