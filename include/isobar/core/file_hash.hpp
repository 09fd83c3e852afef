// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace isobar {

/// Length of a file and XXH3-128 of its bytes, as 32 hexadecimal digits.
struct FileHash {
  std::uint64_t bytes = 0;
  std::string xxh3_128;

  bool operator==(const FileHash&) const = default;
};

/// XXH3-128 of bytes as they come.
class RunningHash {
 public:
  RunningHash();
  ~RunningHash();
  RunningHash(const RunningHash&) = delete;
  RunningHash& operator=(const RunningHash&) = delete;

  void add(std::string_view bytes);

  /// Of what was added so far; more may follow.
  FileHash result() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::uint64_t bytes_ = 0;
};

/// Length and hash of a file, which is read in blocks. Throws DataError where it cannot be read.
FileHash hash_file(const std::filesystem::path& path);

/// XXH3-128 of `text`, as 32 hexadecimal digits.
std::string hash_text(std::string_view text);

/// XXH3-64. For telling values apart within a run.
std::uint64_t hash_bytes(std::string_view bytes);

}  // namespace isobar
