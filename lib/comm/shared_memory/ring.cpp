// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/ring.hpp"

#include <algorithm>
#include <cstring>

namespace isobar {

int64_t RingEnd::filled() const noexcept {
  const auto read = ring_.read.load(std::memory_order_acquire);
  return static_cast<int64_t>(ring_.written.load(std::memory_order_acquire) - read);
}

char* RingEnd::at(uint64_t position) const noexcept {
  auto* bytes = reinterpret_cast<char*>(&ring_) + kRingHeadBytes;
  return bytes + position % static_cast<uint64_t>(capacity_);
}

int64_t RingEnd::put(const void* from, int64_t count) noexcept {
  const auto moved = std::min(count, room());
  if (moved <= 0) return 0;
  const auto position = ring_.written.load(std::memory_order_relaxed);
  const auto to_end = std::min(moved, capacity_ - static_cast<int64_t>(position % capacity_));
  std::memcpy(at(position), from, static_cast<size_t>(to_end));
  std::memcpy(at(0), static_cast<const char*>(from) + to_end, static_cast<size_t>(moved - to_end));
  // After the bytes: who sees the position sees them.
  ring_.written.store(position + moved, std::memory_order_release);
  return moved;
}

int64_t RingEnd::take(void* to, int64_t count) noexcept {
  const auto moved = std::min(count, filled());
  if (moved <= 0) return 0;
  const auto position = ring_.read.load(std::memory_order_relaxed);
  const auto to_end = std::min(moved, capacity_ - static_cast<int64_t>(position % capacity_));
  std::memcpy(to, at(position), static_cast<size_t>(to_end));
  std::memcpy(static_cast<char*>(to) + to_end, at(0), static_cast<size_t>(moved - to_end));
  // After the copy: the sender may overwrite what it sees to be read.
  ring_.read.store(position + moved, std::memory_order_release);
  return moved;
}

}  // namespace isobar
