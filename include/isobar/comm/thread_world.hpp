// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace isobar {

/// Makes a world of `size` ranks in this process. Each communicator goes to a
/// thread of its own; there is no launcher and no network, and sums are taken
/// in the order of ranks, so results repeat to the bit.
///
/// For tests and for several replicas in one process. Tensors are on the CPU.
std::vector<std::unique_ptr<Communicator>> make_thread_world(
    int size, std::chrono::milliseconds timeout = kDefaultTimeout);

/// Runs `body` on `size` ranks, each on a thread of its own with one intra-op
/// thread, and waits for them all. The first exception by time is rethrown on
/// the caller once every thread has ended.
void run_ranks(int size, const std::function<void(Communicator&)>& body,
               std::chrono::milliseconds timeout = kDefaultTimeout);

}  // namespace isobar
