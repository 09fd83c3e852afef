// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>

#include "comm/devices/api.hpp"

namespace isobar {

/// `inner`, which takes CPU tensors, for tensors on GPU `device` as well: their values go
/// through host memory that the GPU copies from and to by itself. CPU tensors take their
/// place in the same order of operations.
///
/// Starting never blocks: a thread waits for the copy to the host and starts inner's
/// operation, another waits for that and starts the copy back. Work::wait() of a GPU
/// tensor blocks until the ranks have exchanged it, and orders the caller's current stream
/// behind the copy back without waiting for that.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner,
                                                       std::shared_ptr<const StagingApi> api,
                                                       int device);

}  // namespace isobar
