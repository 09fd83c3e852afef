// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/nccl/link.hpp"

namespace isobar {

/// One operation on its way, or a task that issues several.
///
/// Its tensors are held here until the device has passed `done`, instead of being
/// marked in LibTorch's caching allocator (record_stream): marked memory comes back
/// only when the allocator next looks at its events, so the peak grows by what is in
/// flight, and an abandoned operation could not keep its memory from being used anew.
struct NcclFlight {
  enum class Stage {
    queued,  ///< its turn has not come
    issued,  ///< it is on the device's stream
    done,    ///< ended well
    failed   ///< the link's first cause says why
  };

  std::shared_ptr<NcclLink> link;
  std::chrono::milliseconds timeout;
  /// Guarded by the queue's mutex. From the call on, and from its turn on anew, since what was
  /// before it had time of its own; a task has as long as its latest operation.
  NcclLink::Clock::time_point deadline;

  /// Taken away under the queue's mutex when the flight is over, as is a task's name.
  std::optional<Operation> operation;
  std::string task_name;
  /// What the inputs wait for: a point on the caller's stream.
  DeviceEvent input;

  /// The issuing thread's until issued.
  std::vector<at::Tensor> scratch;
  std::function<void()> task;

  /// Guarded by the queue's mutex.
  Stage stage = Stage::queued;
  /// Where the stream is past the operation; set once.
  DeviceEvent done;
  /// What a task has issued last.
  std::shared_ptr<const NcclFlight> latest;
  /// Its failure has been reported.
  bool suspected = false;
};

}  // namespace isobar
