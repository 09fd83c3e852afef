// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "comm/completion.hpp"
#include "comm/gloo/group.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {

/// Carries out one rank's schedule over Gloo's messages, which can only be waited for:
/// one thread waits for what arrives, another for what has been sent.
class GlooStream {
 public:
  /// What to look at, once, when so many receives have arrived; it throws where they are
  /// not what they should be.
  struct Check {
    int64_t when_arrived = 0;
    std::function<void()> run;
  };

  /// `completion` gives the time limit. Streams of one group follow each other.
  GlooStream(std::shared_ptr<GlooGroup> group, Schedule schedule, const ScheduleTuning& tuning,
             std::shared_ptr<Completion> completion, Check check);

  /// Both block until their side is done, and run at the same time on two threads.
  /// They throw std::exception.
  void run_receives();
  void run_sends();

 private:
  /// The messages of one direction: all before `done` are complete, those from
  /// `posted` on have not begun.
  struct Window {
    std::deque<std::shared_ptr<GlooMessage>> flying;
    int64_t posted = 0;
    int64_t done = 0;
    int64_t bytes = 0;
  };

  void run(Window& window, const std::vector<Message>& messages);
  std::shared_ptr<GlooMessage> next(Window& window);
  void ended(Window& window, const Message& message);
  void proceed();
  bool may_begin(const Window& window, const std::vector<Message>& messages) const;
  void begin(Window& window, const Message& message, bool sends);

  std::shared_ptr<GlooGroup> group_;
  Schedule schedule_;
  int64_t window_bytes_;
  std::shared_ptr<Completion> completion_;
  Check check_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Window sends_;
  Window receives_;
  size_t combined_ = 0;
  bool is_checked_ = false;
  /// One side has failed: the other need not wait for it.
  bool failed_ = false;
};

}  // namespace isobar
