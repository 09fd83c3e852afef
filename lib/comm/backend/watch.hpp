// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <cstdint>
#include <memory>

namespace isobar {

/// What one communicator tells of its progress, so that a rank that is missing or
/// issues something else can be named. Called by the rank's issuing thread.
class Watch {
 public:
  virtual ~Watch() = default;

  /// `operation`, a collective (no message), has started. Takes well under a microsecond, for an
  /// all_to_all some nanoseconds for each rank more, and never blocks.
  virtual void issued(const Operation& operation) noexcept = 0;

  /// For what the communicator's `split`-th split makes of `color`: a communicator of
  /// `size` ranks, in which this process is `rank`.
  virtual std::unique_ptr<Watch> split(int64_t split, int color, int rank, int size) = 0;
};

}  // namespace isobar
