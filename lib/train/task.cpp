// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/task.hpp>

namespace isobar {

Batch to_device(const Batch& batch, at::Device device) {
  const auto move = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(device, /*non_blocking=*/true) : tensor;
  };
  return {move(batch.state), move(batch.forcing), move(batch.target), move(batch.reference),
          batch.times};
}

}  // namespace isobar
