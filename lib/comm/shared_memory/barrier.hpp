// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "comm/backend/first_cause.hpp"
#include "comm/shared_memory/segment.hpp"

namespace isobar {

using Deadline = std::chrono::steady_clock::time_point;

/// How often a sleeper looks whether its peers are alive.
inline constexpr std::chrono::milliseconds kSlice{50};

/// How a rank waits for the others of its node: awake for a short time, and asleep
/// in slices, after each of which it looks whether waiting still makes sense.
class SpinThenSleep {
 public:
  /// `own_cores`: every rank has a core of its own, so that spinning takes none
  /// from the ranks that compute.
  explicit SpinThenSleep(bool own_cores) : own_cores_(own_cores) {}

  bool own_cores() const noexcept { return own_cores_; }

  /// Returns when `word` is no longer `seen`, and after a slice at the latest.
  /// `sleepers` counts who sleeps there.
  void wait(const Futex& word, uint32_t seen, Futex& sleepers) const;

 private:
  bool changes_soon(const Futex& word, uint32_t seen) const;

  bool own_cores_;
};

/// The barrier of a communicator's ranks, and what one of them knows of the others' life. Phases
/// belong to one thread at a time.
class SharedBarrier {
 public:
  SharedBarrier(std::shared_ptr<SharedSegment> segment, int rank, std::shared_ptr<FirstCause> cause,
                bool own_cores);

  SharedSegment& segment() const noexcept { return *segment_; }
  const SpinThenSleep& spin_then_sleep() const noexcept { return spin_then_sleep_; }
  int rank() const noexcept { return rank_; }
  int size() const noexcept { return segment_->size(); }

  /// Returns once every rank has come as often as this one. Throws CommError where
  /// one cannot come or has not by `deadline`; `operation` is for the message.
  void arrive_and_wait(const Operation& operation, Deadline deadline);

  /// Throws CommError if the world has failed, here or on another rank, or if
  /// stop() was called.
  void check_world() const;

  /// Throws CommError if `peer` is no longer there, unless `came` turns out true
  /// after it was seen to be gone.
  void check_peer(int peer, const Operation& operation, const std::function<bool()>& came) const;

  /// Every wait ends soon, by CommError.
  void stop() noexcept;
  bool stopped() const noexcept { return stopped_.load(); }

 private:
  bool has_come(int rank) const noexcept;
  std::string missing() const;
  void wait_for_phase(const Operation& operation, Deadline deadline);

  std::shared_ptr<SharedSegment> segment_;
  int rank_;
  std::shared_ptr<FirstCause> cause_;
  SpinThenSleep spin_then_sleep_;
  std::atomic<bool> stopped_{false};
  /// The phase at whose end this rank has arrived; it wraps around.
  uint32_t phase_ = 0;
};

}  // namespace isobar
