// SPDX-License-Identifier: Apache-2.0
// The real calls. All go by LibTorch's device-neutral interface, so nothing here calls the CUDA
// runtime itself, and LibTorch for ROCm goes by the same device type.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "comm/devices/api.hpp"
#include "comm/devices/torch_stream.hpp"

namespace isobar {
namespace {

using c10::impl::VirtualGuardImpl;

/// LibTorch tells from one of its releases on; with an older one nobody is asked.
template <typename Guard>
bool is_capturing(const Guard& guard, const c10::Stream& stream) {
  if constexpr (requires { guard.isStreamCapturing(stream); }) {
    return guard.isStreamCapturing(stream);
  }
  return false;
}

std::shared_ptr<const StagingApi> make_staging_api() {
  auto api = std::make_shared<StagingApi>();
  fill_device(*api);
  api->allocate_host = [](int64_t bytes) {
    return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  };
  api->copy = [](int device, DeviceStream stream, const at::Tensor& to, const at::Tensor& from) {
    const at::NoGradGuard no_grad;
    const c10::StreamGuard guard(torch_stream(device, stream));
    to.detach().copy_(from.detach(), /*non_blocking=*/true);
  };
  return api;
}

}  // namespace

void fill_device(DeviceApi& api) {
  api.use_device = [](int device) { VirtualGuardImpl(c10::kCUDA).setDevice(gpu(device)); };
  // Of LibTorch's pool: never destroyed, so that memory in its allocator may name it for ever. The
  // pool holds 32, and a 33rd user shares the first one's.
  api.make_priority_stream = [](int device) {
    return VirtualGuardImpl(c10::kCUDA).getStreamFromGlobalPool(gpu(device), true).id();
  };
  api.current_stream = [](int device) {
    return VirtualGuardImpl(c10::kCUDA).getStream(gpu(device)).id();
  };
  api.record = [](int device, DeviceStream stream) -> DeviceEvent {
    auto event = std::make_shared<c10::Event>(c10::kCUDA);
    event->record(torch_stream(device, stream));
    return event;
  };
  api.block = [](int device, DeviceStream stream, const DeviceEvent& event) {
    static_cast<c10::Event*>(event.get())->block(torch_stream(device, stream));
  };
  api.reached = [](const DeviceEvent& event) {
    return static_cast<c10::Event*>(event.get())->query();
  };
  api.is_capturing = [](int device, DeviceStream stream) {
    return is_capturing(VirtualGuardImpl(c10::kCUDA), torch_stream(device, stream));
  };
}

std::shared_ptr<const StagingApi> staging_api() {
  static const auto api = make_staging_api();
  return api;
}

}  // namespace isobar
