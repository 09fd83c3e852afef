// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/task.hpp>

namespace isobar {
namespace {

template <typename Move>
Batch moved(const Batch& batch, const Move& move) {
  const auto each = [&](const at::Tensor& tensor) {
    return tensor.defined() ? move(tensor) : tensor;
  };
  return {each(batch.state), each(batch.forcing), each(batch.target), each(batch.reference),
          batch.times};
}

}  // namespace

Batch to_device(const Batch& batch, at::Device device) {
  return moved(batch,
               [&](const at::Tensor& tensor) { return tensor.to(device, /*non_blocking=*/true); });
}

Batch pinned(const Batch& batch, at::Device device) {
  if (device.is_cpu()) return batch;
  return moved(batch, [](const at::Tensor& tensor) { return tensor.pin_memory(); });
}

}  // namespace isobar
