// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/submit.hpp>

#include <functional>
#include <string>
#include <utility>

namespace isobar {

/// A job that is asked after again and again, in whatever time: what is new of it, and whether it
/// has ended. Slurm is busy at times, so that an answer that fails is no end.
class JobWatch {
 public:
  explicit JobWatch(std::function<JobState()> ask) : ask_(std::move(ask)) {}

  /// Asks once. Returns a line about what has changed since the last call, or nothing. A first
  /// failure is such a line; the tenth in a row throws its Error. What is a matter of usage throws
  /// at once.
  std::string look();

  /// As it was when Slurm last answered.
  const JobState& state() const noexcept { return state_; }

 private:
  std::function<JobState()> ask_;
  JobState state_;
  int failures_ = 0;  ///< in a row
};

/// "PENDING, Priority".
std::string state_text(const JobState& job);

}  // namespace isobar
