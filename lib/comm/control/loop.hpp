// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/control/control.hpp"
#include "comm/control/diagnosis.hpp"
#include "comm/control/reports.hpp"
#include "comm/control/running_time.hpp"
#include "comm/control/socket.hpp"

namespace isobar::control {

/// What the control threads of all ranks have in common: a thread that waits for the
/// sockets, and the calls by which the process's other threads reach it.
class Loop {
 public:
  Loop(const ControlOptions& options, std::shared_ptr<FirstCause> cause);
  virtual ~Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// From here on the cause is arbitrated.
  void start();

  /// Ends the thread, which takes leave of the others first; `reason` is empty for a
  /// normal end.
  void stop(const std::string& reason);

  Reports& reports() noexcept { return reports_; }

  /// Reports `message` without delay.
  void tell(ControlMessage message);

  /// Control's.
  std::vector<std::string> gather(const std::string& text);
  bool all_equal(const std::string& text);

  /// Waits until some rank has stored `key`.
  std::string get(const std::string& key, Milliseconds timeout);

 protected:
  /// What came by the socket added as `tag` of poller(). All times are of the clock that
  /// stands still while this process does not run.
  virtual void serve(int tag, Time now) = 0;
  /// All that does not come by a socket; at least every kTick.
  virtual void tick(Time now) = 0;
  virtual void leave(const std::string& reason, Time now) = 0;
  /// How long nothing needs to be done here.
  virtual Time next_turn(Time now) const = 0;

  Poller& poller() noexcept { return poller_; }
  FirstCause& cause() noexcept { return *cause_; }
  const TimeLimits& limits() const noexcept { return limits_; }
  /// By the clock that gives serve() and tick() theirs.
  Time now() const noexcept { return time_.now(); }
  void deliver(Gathered gathered);
  void deliver(Found found);

 private:
  void run();
  void turn();
  Gathered take_part(const std::string& text, bool is_compared);

  ControlOptions options_;
  std::shared_ptr<FirstCause> cause_;
  TimeLimits limits_;
  RunningTime time_;
  Poller poller_;
  Reports reports_;
  int subscription_ = -1;

  std::mutex gather_mutex_;
  std::condition_variable gather_changed_;
  std::map<std::string, std::string> found_;
  std::optional<Gathered> gathered_;
  int rounds_ = 0;

  std::atomic<bool> stops_{false};
  std::string reason_;
  std::thread thread_;
};

}  // namespace isobar::control
