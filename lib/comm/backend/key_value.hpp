// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>

namespace isobar {

/// Where ranks leave each other what they need to connect. Safe to use from several
/// threads, whose waits do not hold each other up.
class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;

  /// Does not wait for anybody.
  virtual void set(const std::string& key, const std::string& value) = 0;

  /// Blocks until some rank has set it. Throws CommError once the time is over.
  virtual std::string get(const std::string& key, std::chrono::milliseconds timeout) = 0;
};

/// For ranks that are threads of one process.
class MemoryStore final : public KeyValueStore {
 public:
  void set(const std::string& key, const std::string& value) override;
  std::string get(const std::string& key, std::chrono::milliseconds timeout) override;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
};

}  // namespace isobar
