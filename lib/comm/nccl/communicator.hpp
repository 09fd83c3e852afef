// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <memory>
#include <vector>

#include "comm/backend/first_cause.hpp"
#include "comm/nccl/queue.hpp"

namespace isobar {

struct NcclOptions {
  int rank = 0;
  int size = 1;
  /// The GPU of this rank, by LibTorch's number.
  int device_index = 0;
  std::chrono::milliseconds timeout = kDefaultTimeout;
  /// What make_nccl_unique_id() gave on rank 0; unused in a world of one.
  std::vector<char> unique_id = {};
  /// Floating-point sums are made by the owner of each part in the order of ranks,
  /// the same bits as the threads backend's; NCCL's own order depends on position,
  /// size and topology.
  bool deterministic = false;
  /// An operation waits on the device for the one issued before it by any other
  /// communicator of the process: see NcclQueue. Off, NCCL may deadlock.
  bool serialise = true;
  /// Over more ranks than these 16-bit sums go by NCCL, in 32 bits, unless they are deterministic.
  int few_ranks = ScheduleTuning().few_ranks;
};

/// A name for one world, made by one rank for all. Throws CommError where NCCL finds
/// no network, and UsageError without NCCL.
std::vector<char> make_nccl_unique_id();

/// The world of GPUs; blocks until all ranks have come. Takes tensors on its device
/// alone. Work::wait() orders the caller's current stream; of a barrier, which has no
/// result to order, it blocks the host. Throws CommError with `cause` where ranks do not
/// come in time, and UsageError without NCCL.
///
/// Carries collectives only: send() and receive() throw UsageError.
std::unique_ptr<Communicator> make_nccl_communicator(const NcclOptions& options,
                                                     std::shared_ptr<FirstCause> cause);

/// The same over any table of calls.
std::unique_ptr<Communicator> make_nccl_communicator(const NcclOptions& options,
                                                     std::shared_ptr<FirstCause> cause,
                                                     std::shared_ptr<NcclQueue> queue);

}  // namespace isobar
