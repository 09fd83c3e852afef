// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "comm/backend/first_cause.hpp"

namespace isobar {

struct SharedMemoryOptions {
  /// The same on all ranks and nobody else's, such as "isobar-<token>-0". No slash.
  std::string name;
  int rank = 0;
  int size = 1;
  std::chrono::milliseconds timeout = kDefaultTimeout;
  /// The world's; null for a world of its own.
  std::shared_ptr<FirstCause> cause;
};

/// A communicator of processes of one node, over memory that they share: backend
/// "shm". CPU tensors. Sums are taken in the order of ranks, with the bits of the
/// threads backend, whatever the size of the buffer.
///
/// Collective; blocks until all ranks have come. Throws CommError naming those that
/// have not within the time limit, and where /dev/shm is too small. The name is gone
/// when it returns: nothing stays behind, however the ranks end.
///
/// A rank that dies is named by the others within a second, one that stops when the
/// time limit has passed, and one that calls something else at once. Each rank
/// learns a failure of another from the memory too.
std::unique_ptr<Communicator> make_shared_memory_communicator(const SharedMemoryOptions& options);

/// A world whose ranks are threads of this process, each with a first cause of its
/// own as if they were processes. For tests: thread sanitizers see all of it.
std::vector<std::unique_ptr<Communicator>> make_shared_memory_threads(
    int size, std::chrono::milliseconds timeout = kDefaultTimeout);

}  // namespace isobar
