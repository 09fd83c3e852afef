// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "comm/mpi/task.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {

/// The streams of one communicator, which start in their order: the next when
/// nearly all of the earlier ones is under way, so that the first ends first and
/// the link does not idle in between. Used by the progress thread.
struct MpiLane {
  int64_t bytes_waiting = 0;
};

/// Carries out one rank's schedule over point-to-point messages.
class MpiStream final : public MpiTask {
 public:
  using MakeSchedule = Schedule (*)(const Operation&, int, int, const ScheduleTuning&);

  /// `tag` tells its messages from those of other streams of `comm` in flight.
  struct Channel {
    std::shared_ptr<MPI_Comm> comm;
    int tag = 0;
    bool one_node = false;
    ScheduleTuning tuning;
    std::shared_ptr<MpiLane> lane;
  };

  MpiStream(MpiPlace place, Channel channel, MakeSchedule make);

  bool may_start() const override;
  void start(MpiRequests& requests) override;
  void advance(MpiRequests& requests, int64_t token, const MPI_Status& status) override;
  bool finished() const override;
  std::string place() const override { return place_.place(); }
  std::string too_late() const override { return place_.too_late(); }

 private:
  /// The messages of one direction: all before `done` are complete, those from
  /// `posted` on have not begun.
  struct Window {
    int64_t posted = 0;
    int64_t done = 0;
    int64_t bytes = 0;
    std::deque<bool> complete;

    bool has_room_for(const Message& message, int64_t window_bytes) const;
    void begin(const Message& message);
    void end(int64_t index, const Message& message);
  };

  void check_length(const Message& message, const MPI_Status& status) const;
  void proceed(MpiRequests& requests);
  bool may_begin(const Window& window, const std::vector<Message>& messages) const;
  void post_receive(MpiRequests& requests);
  void post_send(MpiRequests& requests);

  MpiPlace place_;
  Channel channel_;
  MakeSchedule make_;
  Schedule schedule_;
  Window sends_;
  Window receives_;
  size_t combined_ = 0;
};

}  // namespace isobar
