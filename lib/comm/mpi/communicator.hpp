// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/schedule/schedule.hpp"

namespace isobar {

struct MpiOptions {
  std::chrono::milliseconds timeout = kDefaultTimeout;
  /// Sums of floats have the bits that a sum in the order of ranks has, whatever the
  /// size of the message or its place in it; otherwise only the same on every rank.
  bool deterministic = false;
  /// Null for one of its own.
  std::shared_ptr<FirstCause> cause;
  /// Empty for what suits the way between the ranks.
  std::optional<ScheduleTuning> tuning;
};

/// The MPI world; what is split from it has the same options. Collective over
/// MPI_COMM_WORLD; blocks. The file no_mpi.cpp throws UsageError.
std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& options);

/// The texts of all ranks of MPI_COMM_WORLD, in their order, for setting up another
/// connection. Collective; blocks. Throws like make_mpi_communicator.
std::vector<std::string> mpi_gather(const std::string& text, std::chrono::milliseconds timeout);

}  // namespace isobar
