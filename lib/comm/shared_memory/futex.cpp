// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace isobar {

static_assert(sizeof(Futex) == sizeof(uint32_t) && Futex::is_always_lock_free);

void futex_wait(const Futex& word, uint32_t expected, std::chrono::nanoseconds limit) noexcept {
  constexpr int64_t kSecond = 1'000'000'000;
  const timespec time{static_cast<time_t>(limit.count() / kSecond),
                      static_cast<long>(limit.count() % kSecond)};
  // Not FUTEX_PRIVATE_FLAG: that one keys by virtual address, and every process has its own.
  syscall(SYS_futex, &word, FUTEX_WAIT, expected, &time, nullptr, 0);
}

void futex_wake_all(const Futex& word) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace isobar
