// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "comm/schedule/schedule.hpp"

namespace isobar {

/// How a transport moves the messages of a schedule. `index` counts those of each direction.
class MessageTransport {
 public:
  virtual ~MessageTransport() = default;

  /// Both start the message and return. They may throw.
  virtual void send(const Message& message, int64_t index) = 0;
  virtual void receive(const Message& message, int64_t index) = 0;
};

/// Carries out one rank's schedule: says which message begins when, and combines what has
/// arrived. How messages are moved, waited for and told of is the transport's. Not safe to
/// use from several threads at a time.
class ScheduleRunner {
 public:
  /// What may be under way in each direction; one message always may.
  struct Limits {
    int64_t window_bytes = 0;
    int64_t messages = std::numeric_limits<int64_t>::max();
  };

  /// `transport` must outlive this.
  ScheduleRunner(Schedule schedule, const Limits& limits, MessageTransport& transport);

  /// Begins what may begin before anything has arrived.
  void start() { proceed(); }

  /// The message that was begun as `index` is complete, in any order. Begins what may begin now.
  /// Throws what the transport and the schedule's check throw; the check's at every call after it.
  void sent(int64_t index);
  void received(int64_t index);

  bool finished() const;

  const Schedule& schedule() const noexcept { return schedule_; }

 private:
  /// The messages of one direction: all before `done` are complete, those from
  /// `posted` on have not begun.
  struct Window {
    int64_t posted = 0;
    int64_t done = 0;
    int64_t bytes = 0;
    std::deque<bool> complete;

    void begin(const Message& message);
    void end(int64_t index, const Message& message);
  };

  void proceed();
  bool may_begin(const Window& window, const std::vector<Message>& messages) const;

  Schedule schedule_;
  Limits limits_;
  MessageTransport& transport_;
  Window sends_;
  Window receives_;
  size_t combined_ = 0;
  bool is_checked_ = false;
};

}  // namespace isobar
