// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <memory>
#include <vector>

#include "comm/nccl/link.hpp"

namespace isobar {

/// One operation on its way, or several messages that go together.
///
/// Its tensors are held here until the device has passed `done`, instead of being
/// marked in LibTorch's caching allocator (record_stream): marked memory comes back
/// only when the allocator next looks at its events, so the peak grows by what is in
/// flight, and an abandoned operation could not keep its memory from being used anew.
struct NcclFlight {
  enum class Stage {
    open,    ///< messages that others may still join
    queued,  ///< its turn has not come
    issued,  ///< it is on the device's stream
    done,    ///< ended well
    failed   ///< the link's first cause says why
  };

  std::shared_ptr<NcclLink> link;
  NcclLink::Clock::time_point deadline;

  /// Written under the queue's mutex: while open, and when the flight is over.
  std::vector<Operation> operations;
  /// What the inputs wait for: points on the callers' streams.
  std::vector<DeviceEvent> inputs;

  /// The issuing thread's until issued.
  std::vector<at::Tensor> scratch;

  /// Guarded by the queue's mutex.
  Stage stage = Stage::queued;
  /// Where the stream is past the operation; set once.
  DeviceEvent done;
  /// Its failure has been reported.
  bool suspected = false;
};

}  // namespace isobar
