// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <memory>
#include <optional>

#include "comm/mpi/task.hpp"
#include "comm/schedule/runner.hpp"

namespace isobar {

/// The schedules of one communicator, which start in their order: the next when
/// nearly all of the earlier ones is under way, so that the first ends first and
/// the link does not idle in between. Used by the progress thread.
struct MpiLane {
  int64_t bytes_waiting = 0;
};

/// Carries out one rank's schedule over point-to-point messages.
class MpiScheduleTask final : public MpiTask, private MessageTransport {
 public:
  /// `tag` tells its messages from those of other schedules of `comm` in flight.
  struct Channel {
    std::shared_ptr<MPI_Comm> comm;
    int tag = 0;
    bool one_node = false;
    ScheduleTuning tuning;
    std::shared_ptr<MpiLane> lane;
  };

  MpiScheduleTask(Operation operation, int rank, int size, Channel channel, MakeSchedule make);

  bool may_start() const override;
  void start(MpiRequests& requests) override;
  void advance(MpiRequests& requests, int64_t token, const MPI_Status& status) override;
  bool finished() const override;

 private:
  void send(const Message& message, int64_t index) override;
  void receive(const Message& message, int64_t index) override;
  void check_length(const Message& message, const MPI_Status& status) const;

  Operation operation_;
  int rank_;
  int size_;
  Channel channel_;
  MakeSchedule make_;
  /// From start() on.
  std::optional<ScheduleRunner> runner_;
  MpiRequests* requests_ = nullptr;
};

}  // namespace isobar
