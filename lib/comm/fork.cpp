// SPDX-License-Identifier: Apache-2.0
#include "comm/fork.hpp"

#include <pthread.h>
#include <unistd.h>

#include <mutex>
#include <set>
#include <utility>
#include <vector>

namespace isobar {

std::atomic<int> detail::fork_depth{0};

namespace {

/// Never destroyed: descriptors are closed, and processes copied, until the very end.
struct Held {
  /// Held by who forks: nothing below is half done in the child, nor any descriptor half known.
  std::mutex mutex;
  std::set<int> descriptors;
  std::vector<std::shared_ptr<void>> objects;
};

Held& held() {
  static auto& instance = *new Held;
  return instance;
}

void before_fork() { held().mutex.lock(); }

void in_parent() { held().mutex.unlock(); }

void in_child() {
  ++detail::fork_depth;
  for (const int descriptor : held().descriptors) close(descriptor);
  held().descriptors.clear();
  held().mutex.unlock();
}

void watch_forks() {
  static const int watched = pthread_atfork(before_fork, in_parent, in_child);
  static_cast<void>(watched);
}

}  // namespace

HomeProcess::HomeProcess() : depth_((watch_forks(), fork_depth())), pid_(getpid()) {}

int open_unshared(const std::function<int()>& open) {
  watch_forks();
  const std::lock_guard lock(held().mutex);
  const int descriptor = open();
  if (descriptor >= 0) held().descriptors.insert(descriptor);
  return descriptor;
}

void close_unshared(int descriptor) {
  const std::lock_guard lock(held().mutex);
  if (held().descriptors.erase(descriptor) > 0) close(descriptor);
}

void keep_undestroyed(std::shared_ptr<void> object) {
  const std::lock_guard lock(held().mutex);
  held().objects.push_back(std::move(object));
}

}  // namespace isobar
