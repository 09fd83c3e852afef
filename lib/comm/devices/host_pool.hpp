// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

namespace isobar {

/// Host memory that a device copies from and to, kept for the next operation: taking it
/// from the system stops the device. Sizes are powers of two, so that a few buffers serve
/// all; nothing is given back to the system before the end. Safe to use from several
/// threads.
class HostPool {
 public:
  /// `allocate` makes a buffer of so many bytes.
  explicit HostPool(std::function<at::Tensor(int64_t bytes)> allocate);

  /// A buffer of `bytes` (positive) or somewhat more.
  at::Tensor take(int64_t bytes);

  /// For a buffer that nobody reads or writes any more. One that never comes back is
  /// freed by its last user.
  void give_back(at::Tensor buffer);

 private:
  std::function<at::Tensor(int64_t)> allocate_;
  std::mutex mutex_;
  std::map<int64_t, std::vector<at::Tensor>> free_;
};

}  // namespace isobar
