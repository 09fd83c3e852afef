// SPDX-License-Identifier: Apache-2.0
// How the processes of a job find each other.
#pragma once

#include <vector>

#include "comm/control/acceptor.hpp"
#include "comm/control/connection.hpp"
#include "comm/control/control.hpp"

namespace isobar::control {

/// A world that is complete.
struct Joined {
  ProcessTable processes;
  /// On rank 0 the connections to the others by rank, its own closed; elsewhere one, to rank 0.
  std::vector<Connection> connections;
  /// What rank 0 said since; empty on rank 0.
  std::vector<ControlMessage> early = {};
  /// This process's rank among them.
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

/// The part of all ranks but rank 0, which has admission.hpp: tries rank 0's addresses in turn
/// until its limit.
Joined join_rank_0(const ControlOptions& options);

/// Control::ask_who_is_there().
void ask_rank_0(const ControlOptions& options);

}  // namespace isobar::control
