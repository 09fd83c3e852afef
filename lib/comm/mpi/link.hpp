// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <memory>

#include "comm/mpi/schedule_task.hpp"
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
/// an operation's schedule has one of its own.
inline constexpr int kFirstScheduleTag = 1 << 15;
inline constexpr int kScheduleTags = 1 << 15;

}  // namespace isobar
