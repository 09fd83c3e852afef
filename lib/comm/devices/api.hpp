// SPDX-License-Identifier: Apache-2.0
// What isobar calls of a device: streams, events and copies. Nothing here needs a CUDA header, so
// tests run what is built on it over a double on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace isobar {

/// A stream of the device, by LibTorch's number.
using DeviceStream = int64_t;

/// A point on a stream; released with the last reference.
using DeviceEvent = std::shared_ptr<void>;

/// Streams and events.
struct DeviceApi {
  at::DeviceType device_type = at::kCUDA;

  /// Makes `device` the calling thread's.
  std::function<void(int device)> use_device;
  std::function<DeviceStream(int device)> make_priority_stream;
  /// The calling thread's current stream.
  std::function<DeviceStream(int device)> current_stream;
  std::function<DeviceEvent(int device, DeviceStream stream)> record;
  /// What is put on the stream afterwards waits for the event.
  std::function<void(int device, DeviceStream stream, const DeviceEvent& event)> block;
  /// True once the event has been reached. Throws the device's error.
  std::function<bool(const DeviceEvent& event)> reached;
  /// Whether what is put on the stream goes into a graph to be launched later (CUDA graphs).
  std::function<bool(int device, DeviceStream stream)> is_capturing = [](int, DeviceStream) {
    return false;
  };
};

/// Throws UsageError, which `operation` begins, where the caller's current stream captures a graph:
/// an operation is put on another stream, by another thread, and would not be in it.
void check_not_capturing(const DeviceApi& api, int device, const std::string& operation);

/// What carrying tensors over host memory takes beyond that.
struct StagingApi : DeviceApi {
  /// Bytes of host memory that the device reads and writes by itself. May block.
  std::function<at::Tensor(int64_t bytes)> allocate_host;
  /// Puts to = from on the stream: one of them lies on the device, the other in what
  /// allocate_host() gave. Does not wait for it.
  std::function<void(int device, DeviceStream stream, const at::Tensor& to, const at::Tensor& from)>
      copy;
};

/// The real calls. The file no_cuda.cpp throws UsageError.
std::shared_ptr<const StagingApi> staging_api();

/// Fills in the real calls; not there without CUDA.
void fill_device(DeviceApi& api);

}  // namespace isobar
