// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/key_value.hpp"

#include <isobar/core/error.hpp>

#include "comm/backend/operation_facts.hpp"

namespace isobar {

void MemoryStore::set(const std::string& key, const std::string& value) {
  const std::lock_guard lock(mutex_);
  values_[key] = value;
  changed_.notify_all();
}

std::string MemoryStore::get(const std::string& key, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, timeout, [&] { return values_.contains(key); })) {
    throw CommError(detail::join("no rank has set ", key, " in ", in_words(timeout)));
  }
  return values_[key];
}

}  // namespace isobar
