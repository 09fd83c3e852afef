// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <functional>
#include <memory>

namespace isobar::test {

/// How tensors reach a device and come back.
struct Carrier {
  /// The values of a CPU tensor, on the device.
  std::function<at::Tensor(const at::Tensor& host)> there;
  /// Into a CPU tensor, once the current stream has come to it.
  std::function<void(const at::Tensor& host, const at::Tensor& on_device)> back;
  /// Smaller communicators get CPU tensors: of a rank alone LibTorch makes the copies.
  int fewest_ranks = 1;
};

/// On a GPU.
Carrier gpu_carrier(int device_index);

/// Takes CPU tensors and has `inner` do messages and every n-th collective on a device, the
/// others as they are: so the scenarios that every backend must pass run with a device's tensors.
std::unique_ptr<Communicator> carried(std::unique_ptr<Communicator> inner, Carrier carrier,
                                      int every = 1);

}  // namespace isobar::test
