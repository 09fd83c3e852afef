// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/keeper.hpp"

#include <atomic>
#include <utility>

namespace isobar {
namespace {

struct Kept {
  std::shared_ptr<void> object;
  Kept* before = nullptr;
};

/// A list that only grows. Without a lock: another thread may hold one while this process forks.
std::atomic<Kept*> last{nullptr};

}  // namespace

void keep_to_the_end(std::shared_ptr<void> object) {
  if (!object) return;
  auto* const kept = new Kept{std::move(object), last.load(std::memory_order_relaxed)};
  while (!last.compare_exchange_weak(kept->before, kept, std::memory_order_release,
                                     std::memory_order_relaxed)) {
  }
}

}  // namespace isobar
