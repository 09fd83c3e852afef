// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <cstdint>
#include <functional>

namespace isobar {

/// What a stage calls after so many units of its work, such as one field read. Throws where another
/// rank's stage has failed, so that this one ends, too.
using Advance = std::function<void(int64_t units)>;

/// Runs `stage` on every rank, each at its own pace: the ranks may end hours apart, and the time
/// limit of `comm` does not count that. Meant for reading, where one rank's part can be much slower
/// than another's.
///
/// The stage runs on a thread of its own and must not communicate over `comm`, whose ranks tell
/// each other once a second how far they are. `progress` is called on every rank's calling thread
/// with the units that all ranks have done together. What a stage threw is thrown as run_agreed()
/// does, on every rank. Collective; blocks.
void run_at_own_pace(Communicator& comm, const std::function<void(const Advance&)>& stage,
                     const std::function<void(int64_t done)>& progress = nullptr);

}  // namespace isobar
