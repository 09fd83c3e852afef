// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/host_pool.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "comm/backend/tensor_bytes.hpp"

namespace isobar {
namespace {

/// Whatever is smaller shares a size with it.
constexpr int64_t kSmallest = 4 << 10;

int64_t size_class(int64_t bytes) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(bytes, kSmallest))));
}

}  // namespace

HostPool::HostPool(std::function<at::Tensor(int64_t)> allocate) : allocate_(std::move(allocate)) {}

at::Tensor HostPool::take(int64_t bytes) {
  const auto size = size_class(bytes);
  {
    const std::lock_guard lock(mutex_);
    auto& buffers = free_[size];
    if (!buffers.empty()) {
      auto buffer = std::move(buffers.back());
      buffers.pop_back();
      return buffer;
    }
  }
  return allocate_(size);
}

void HostPool::give_back(at::Tensor buffer) {
  const auto size = byte_count(buffer);
  const std::lock_guard lock(mutex_);
  free_[size].push_back(std::move(buffer));
}

}  // namespace isobar
