// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/shared_memory/segment.hpp"

namespace isobar {

/// One end of the bytes that flow from one rank to another: the sender only puts,
/// the receiver only takes. Nothing blocks.
class RingEnd {
 public:
  RingEnd(Ring& ring, int64_t capacity) : ring_(ring), capacity_(capacity) {}

  int64_t filled() const noexcept;
  int64_t room() const noexcept { return capacity_ - filled(); }

  /// As many of `count` bytes as there is room for; returns their number.
  int64_t put(const void* from, int64_t count) noexcept;
  /// As many of `count` bytes as there are; returns their number.
  int64_t take(void* to, int64_t count) noexcept;

 private:
  char* at(uint64_t position) const noexcept;

  Ring& ring_;
  int64_t capacity_;
};

}  // namespace isobar
