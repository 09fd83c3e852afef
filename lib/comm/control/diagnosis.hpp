// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comm/control/call_log.hpp"
#include "comm/control/message.hpp"
#include "comm/control/process_table.hpp"

namespace isobar::control {

/// How long things may take before they are a failure.
struct TimeLimits {
  Milliseconds silence{60'000};
  Milliseconds gather{60'000};
  /// How many ranks tell rank 0.
  int size = 1;

  /// Between two signs of life: longer in large worlds, whose ranks all sign to rank 0.
  Milliseconds interval() const;

  /// Between two reports of what a rank has called, so that rank 0 gets some hundred messages a
  /// second from all; what matters is asked for when it does. No longer than interval(): a rank
  /// that calls collectives needs no other sign of life.
  Milliseconds pace() const;

  /// What one turn of the judge counts at most against the others (RunningTime): so much
  /// that a busy machine does not stretch the limits, so little that ten absences in a
  /// row, without a sign heard in between, accuse nobody.
  Milliseconds longest_turn() const;
};

/// Finds the one cause of a failure from what rank 0 hears, without sockets and with
/// the time (RunningTime) handed in: events go in, and verdict() says what comes of them.
///
/// Evidence is not judged at once: what is seen first is often an echo. After a first
/// sign the others get a moment; then the strongest decides: calls that differ (they
/// crash transports), then closed connections, then silence, then ranks that left
/// early, then what a rank suspected.
class Diagnosis {
 public:
  Diagnosis(ProcessTable processes, TimeLimits limits, Time now);
  Diagnosis(const Diagnosis&) = delete;
  Diagnosis& operator=(const Diagnosis&) = delete;

  /// `message` came from `rank`; those of the start and from rank 0 to others are
  /// ignored.
  void received(int rank, const ControlMessage& message, Time now);
  void closed(int rank, Time now);

  /// The verdict, if it is time for one.
  std::optional<std::string> verdict(Time now);

  /// The verdict on what is known, since there will be no more.
  std::optional<std::string> last_verdict(Time now);

  /// When verdict() may change its mind without an event.
  Time next_decision() const;

  /// True once for each new evidence: all should report now.
  bool take_probe() { return std::exchange(wants_probe_, false); }

  /// What came of a round of gather() or all_equal() that is complete.
  std::optional<Gathered> take_gathered();

  std::vector<Progress> progress_of(int rank) const { return call_log_.progress_of(rank); }
  const ProcessTable& processes() const noexcept { return processes_; }

 private:
  enum class State { there, gone, left };

  struct Rank {
    State state = State::there;
    Time heard;
    std::string suspicion;
  };

  struct Round {
    std::vector<std::optional<std::string>> texts;
    size_t count = 0;
    bool is_compared = false;
    Time since;
  };

  void handle(int rank, const Verdict& verdict, Time now);
  void handle(int rank, const Suspicion& suspicion, Time now);
  void handle(int rank, const Goodbye& goodbye, Time now);
  void handle(int rank, const Contribution& contribution, Time now);
  void handle(int rank, const Report& report, Time now);
  template <typename Other>
  void handle(int, const Other&, Time) {}

  void decide_by(Time time);
  void look_around(Time now);
  bool is_somebody_silent(Time now);
  std::optional<std::string> judge(Time now) const;
  std::vector<int> ranks_in(State state) const;
  std::vector<int> silent_for(Clock::duration limit, Time now) const;
  std::string gone(const std::vector<int>& ranks) const;
  std::string suspicion(Time now) const;
  std::optional<std::string> incomplete_round(Time now) const;

  ProcessTable processes_;
  TimeLimits limits_;
  CallLog call_log_;
  std::vector<Rank> ranks_;
  std::optional<Time> decide_at_;
  std::optional<std::string> given_;
  std::string suspicion_;
  Time suspected_at_;
  bool wants_probe_ = false;
  std::optional<Round> round_;
  int rounds_ = 0;
  /// Nobody can have been silent for the limit before this.
  Time next_silence_;
  bool has_left_ = false;
};

}  // namespace isobar::control
