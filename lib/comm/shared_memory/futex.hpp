// SPDX-License-Identifier: Apache-2.0
// Sleeping on a word of memory that several processes map.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace isobar {

using Futex = std::atomic<uint32_t>;

/// Sleeps while `word` holds `expected`, for `limit` at most. May return early.
void futex_wait(const Futex& word, uint32_t expected, std::chrono::nanoseconds limit) noexcept;

/// Wakes all who sleep on `word`, in all processes.
void futex_wake_all(const Futex& word) noexcept;

}  // namespace isobar
