// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/values.hpp>

#include <string>
#include <vector>

namespace isobar::bench {

/// What rank 0 says where there is nobody to communicate with.
inline constexpr const char* kAlone =
    "one rank: nothing is communicated; start several, as in mpirun -n 2\n";

/// What is measured: one way to run one collective over the ranks of a job, and
/// what the measurement itself needs of them.
class Subject {
 public:
  virtual ~Subject() = default;

  /// What the row's field `backend` says.
  virtual std::string backend() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Every rank's text, in the order of ranks. Collective; blocks, without taking
  /// a core from the others while it waits; never timed.
  virtual std::vector<std::string> gather(const std::string& text) = 0;

  /// Returns once every rank has called it; before each timed repeat.
  virtual void barrier() = 0;

  /// Runs the collective on each element of `flight`, all of them in flight
  /// together where the way allows that, and returns as early as it can.
  virtual void start(const std::vector<Buffers>& flight) = 0;

  /// Blocks until all that was started has ended.
  virtual void wait() = 0;
};

}  // namespace isobar::bench
