// SPDX-License-Identifier: Apache-2.0
// Everything that the NCCL backend calls outside isobar: NCCL (or RCCL) and the device's streams
// and events. The backend's logic needs no CUDA header, so tests run it over a double on the CPU.
#pragma once

#include <isobar/comm/reduction.hpp>
#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/devices/api.hpp"

namespace isobar {

/// A communicator of NCCL's, ncclComm_t.
using NcclComm = struct NcclCommOpaque*;

/// Where NCCL puts a communicator, from a thread of its own and as late as it likes:
/// kept until the communicator has ended, or its making has been aborted.
struct NcclSlot {
  std::atomic<NcclComm> comm{nullptr};
};

/// The element types that NCCL combines. Whatever is only moved goes as bytes.
enum class NcclType { int8, uint8, int32, int64, float16, bfloat16, float32, float64 };

enum class NcclResult { success, in_progress, error };

struct [[nodiscard]] NcclStatus {
  NcclResult result = NcclResult::success;
  /// Of an error: what NCCL says, such as "unhandled cuda error (Cuda failure 700)".
  std::string message;
};

/// The table of calls. Communicators are non-blocking: any call may answer
/// in_progress, and has done its work once async_status() answers success.
struct NcclApi : DeviceApi {
  /// "nccl" or "rccl".
  std::string_view name;

  std::function<NcclStatus(std::vector<char>& id)> make_unique_id;
  std::function<NcclStatus(NcclSlot& slot, int size, const std::vector<char>& id, int rank)> init;
  /// The slot is filled once the parent answers success, and never for a negative
  /// color (nccl#1472).
  std::function<NcclStatus(NcclComm comm, int color, int key, NcclSlot& child)> split;
  std::function<NcclStatus(NcclComm comm, int& rank, int& size)> rank_and_size;
  std::function<NcclStatus(NcclComm comm)> async_status;
  std::function<NcclStatus(NcclComm comm)> finalize;
  std::function<NcclStatus(NcclComm comm)> destroy;
  std::function<NcclStatus(NcclComm comm)> abort;

  /// What is called between the two, by one thread, is one operation.
  std::function<NcclStatus()> group_start;
  std::function<NcclStatus()> group_end;

  /// Counts are elements of `type`: of the whole for an allreduce, of one rank's
  /// part for the next two.
  std::function<NcclStatus(const void* in, void* out, int64_t count, NcclType type, ReduceOp op,
                           NcclComm comm, DeviceStream stream)>
      allreduce;
  std::function<NcclStatus(const void* in, void* out, int64_t count, NcclType type, ReduceOp op,
                           NcclComm comm, DeviceStream stream)>
      reduce_scatter;
  std::function<NcclStatus(const void* in, void* out, int64_t bytes, NcclComm comm,
                           DeviceStream stream)>
      all_gather;
  std::function<NcclStatus(void* buffer, int64_t bytes, int root, NcclComm comm,
                           DeviceStream stream)>
      broadcast;
  std::function<NcclStatus(const void* in, int64_t bytes, int peer, NcclComm comm,
                           DeviceStream stream)>
      send;
  std::function<NcclStatus(void* out, int64_t bytes, int peer, NcclComm comm, DeviceStream stream)>
      receive;

  /// Memory that is used on `stream` alone.
  std::function<at::Tensor(int device, DeviceStream stream, int64_t count, at::ScalarType type)>
      allocate;
  /// Runs `work` on the calling thread with `stream` as its current one.
  std::function<void(int device, DeviceStream stream, const std::function<void()>& work)>
      with_stream;
  /// Puts tensor operations on the stream.
  std::function<void(int device, DeviceStream stream, std::function<void()> work)> compute;
};

}  // namespace isobar
