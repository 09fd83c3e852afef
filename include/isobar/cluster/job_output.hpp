// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace isobar {

/// What a job writes, read while it writes.
class JobOutput {
 public:
  /// Of the file's `lines` last lines on.
  JobOutput(std::filesystem::path file, int lines);

  /// What has come since the last call, or nothing where there is no file yet. Does not wait.
  std::optional<std::string> read();

 private:
  std::filesystem::path file_;
  int lines_;
  std::int64_t place_ = -1;  ///< how far it was read; -1: not yet
};

}  // namespace isobar
