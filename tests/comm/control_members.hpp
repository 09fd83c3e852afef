// SPDX-License-Identifier: Apache-2.0
// The ranks of a large world but rank 0, whose control connection is the real one: what they say is
// what real members say, but one thread says it for all. For tests at full size and the benchmark.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/control/authentication.hpp"
#include "comm/control/control.hpp"
#include "comm/control/diagnosis.hpp"

namespace isobar::test {

/// A communicator of a rank: its id, and the rank's place in it.
std::vector<control::Watching> communicators_of(int rank, int size);

/// How many collectives of such a communicator have been called `seconds` after the first.
int64_t calls_after(double seconds, double calls_per_s);

/// The n-th of them is the same on all ranks.
Operation collective_at(int64_t sequence);
Call call_at(int64_t sequence);

class ControlMembers {
 public:
  /// Starts to connect at once. `options` are rank 0's; ranks_per_node share a node's name.
  explicit ControlMembers(const ControlOptions& options, int ranks_per_node = 4);
  ~ControlMembers();
  ControlMembers(const ControlMembers&) = delete;
  ControlMembers& operator=(const ControlMembers&) = delete;

  /// Closes the connection of `rank`, as the end of its process does.
  void kill(int rank);

  /// From now on each rank calls so many collectives a second, on all its communicators together.
  void call(double calls_per_s);

  /// How many have been welcomed, have the result of the last of three rounds, have a verdict.
  int welcomed() const { return welcomed_; }
  int gathered() const { return gathered_; }
  int judged() const { return judged_; }

  int64_t bytes_received() const { return bytes_received_; }
  int64_t messages_sent() const { return messages_sent_; }

  /// The verdicts, by text how many got it; and how long after kill() the last one came.
  std::map<std::string, int> verdicts() const;
  double last_verdict_s() const;

  /// What a member got that no member should; empty for nothing.
  std::string wrong() const;

 private:
  struct Member;

  void run();
  void connect(Member& member);
  void serve(Member& member);
  void take(Member& member, const control::ControlMessage& message);
  void take_round(Member& member, const control::Gathered& gathered);
  void contribute(Member& member, int round);
  void report(Member& member, bool must_sign);
  void close(Member& member);
  void note_wrong(const std::string& what);
  void send(Member& member, const control::ControlMessage& message);

  ControlOptions options_;
  int ranks_per_node_;
  control::TimeLimits limits_;
  control::Poller poller_;
  std::vector<std::unique_ptr<Member>> members_;
  std::atomic<int> welcomed_{0};
  std::atomic<int> gathered_{0};
  std::atomic<int> judged_{0};
  std::atomic<int64_t> bytes_received_{0};
  std::atomic<int64_t> messages_sent_{0};
  std::atomic<int> to_kill_{0};
  std::atomic<double> calls_per_s_{0};
  control::Time calls_since_;
  mutable std::mutex mutex_;
  std::map<std::string, int> verdicts_;
  std::string wrong_;
  control::Time killed_;
  control::Time last_verdict_;
  std::atomic<bool> stops_{false};
  std::thread thread_;
};

}  // namespace isobar::test
