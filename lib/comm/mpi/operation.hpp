// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "comm/mpi/stream.hpp"
#include "comm/mpi/task.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {

/// What the operations of one communicator have in common.
struct MpiLink {
  std::shared_ptr<MPI_Comm> comm;
  bool one_node = false;
  bool deterministic = false;
  ScheduleTuning tuning;
  std::shared_ptr<MpiLane> lane = std::make_shared<MpiLane>();
};

/// The lowest tag of the library's that users cannot take, and how many there are:
/// an operation's stream of messages has one of its own.
inline constexpr int kFirstStreamTag = 1 << 15;
inline constexpr int kStreamTags = 1 << 15;

/// What carries an operation out: by messages of ours, or by the library's own
/// calls where the buffer is small. All ranks choose the same.
std::shared_ptr<MpiTask> make_task(MpiPlace place, const MpiLink& link);

/// By the library's own calls.
std::shared_ptr<MpiTask> make_library_task(MpiPlace place, const MpiLink& link);

/// `total` elements as consecutive (offset, count) of at most `largest`; one
/// piece of zero elements where there are none.
std::vector<std::pair<int64_t, int>> pieces(int64_t total, int largest);

}  // namespace isobar
