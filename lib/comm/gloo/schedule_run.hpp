// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "comm/backend/completion.hpp"
#include "comm/gloo/group.hpp"
#include "comm/schedule/runner.hpp"

namespace isobar {

/// Carries out one rank's schedule over Gloo's messages, which can only be waited for:
/// one thread waits for what arrives, another for what has been sent.
class GlooScheduleRun final : private MessageTransport {
 public:
  /// `completion` gives the time limit. Runs of one group follow each other.
  GlooScheduleRun(std::shared_ptr<GlooGroup> group, Schedule schedule, const ScheduleTuning& tuning,
                  std::shared_ptr<Completion> completion);

  /// Both block until their side is done, and run at the same time on two threads.
  /// They throw std::exception.
  void run_receives();
  void run_sends();

 private:
  /// The messages of one direction on their way, the oldest first.
  using Flying = std::deque<std::shared_ptr<GlooMessage>>;

  void send(const Message& message, int64_t index) override;
  void receive(const Message& message, int64_t index) override;
  void run(Flying& flying, int64_t count, void (ScheduleRunner::*ended)(int64_t));
  std::shared_ptr<GlooMessage> oldest(Flying& flying);

  std::shared_ptr<GlooGroup> group_;
  std::shared_ptr<Completion> completion_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by the mutex, but for the schedule itself, which does not change.
  ScheduleRunner runner_;
  Flying sends_;
  Flying receives_;
  /// One side has failed: the other need not wait for it.
  bool failed_ = false;
};

}  // namespace isobar
