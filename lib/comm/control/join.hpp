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
  /// Rank 0's, in the end every rank's.
  std::string session = {};
};

/// A text that no other process makes.
std::string make_session();

/// How the process of these options introduces itself.
Hello make_hello(const ControlOptions& options);

/// Why `hello`, of another job than rank 0's own, cannot join it; empty for one of this job.
std::string other_job(const Hello& hello, const Hello& own);

/// Rank 0's part, itself known as `own`: blocks until all have come. What goes wrong is thrown here
/// and told to all who come: UsageError where two call themselves one rank or sizes differ,
/// CommError naming those who have not come in time.
Joined receive_all(const ControlOptions& options, const Hello& own, Door& door);

/// The others' part: tries rank 0's addresses in turn until its limit.
Joined join_rank_0(const ControlOptions& options);

/// Control::ask_who_is_there().
void ask_rank_0(const ControlOptions& options);

}  // namespace isobar::control
