// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/fork.hpp"

#include <pthread.h>
#include <unistd.h>

#include <mutex>
#include <set>

namespace isobar {

std::atomic<int> forks_seen{0};

namespace {

/// What a child must not have. Never destroyed itself: descriptors are closed, and
/// processes copied, until the very end.
struct ForkRegistry {
  /// Held by who forks: nothing below is half done in the child, nor any descriptor half known.
  std::mutex mutex;
  std::set<int> descriptors;
};

ForkRegistry& registry() {
  static auto& instance = *new ForkRegistry;
  return instance;
}

void before_fork() { registry().mutex.lock(); }

void in_parent() { registry().mutex.unlock(); }

void in_child() {
  ++forks_seen;
  for (const int descriptor : registry().descriptors) close(descriptor);
  registry().descriptors.clear();
  registry().mutex.unlock();
}

void watch_forks() {
  static const int watched = pthread_atfork(before_fork, in_parent, in_child);
  static_cast<void>(watched);
}

}  // namespace

HomeProcess::HomeProcess() : depth_((watch_forks(), fork_depth())), pid_(getpid()) {}

int open_unshared(const std::function<int()>& open) {
  watch_forks();
  const std::lock_guard lock(registry().mutex);
  const int descriptor = open();
  if (descriptor >= 0) registry().descriptors.insert(descriptor);
  return descriptor;
}

void close_unshared(int descriptor) {
  const std::lock_guard lock(registry().mutex);
  if (registry().descriptors.erase(descriptor) > 0) close(descriptor);
}

}  // namespace isobar
