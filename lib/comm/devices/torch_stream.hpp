// SPDX-License-Identifier: Apache-2.0
// LibTorch's objects for a device's number and a stream's. LibTorch for ROCm goes by CUDA's device
// type, too.
#pragma once

#include <c10/core/Stream.h>

#include "comm/devices/api.hpp"

namespace isobar {

inline c10::Device gpu(int index) { return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)}; }

inline c10::Stream torch_stream(int device, DeviceStream stream) {
  return c10::Stream(c10::Stream::UNSAFE, gpu(device), stream);
}

}  // namespace isobar
