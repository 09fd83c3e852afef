// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace isobar {

/// A new folder under its name, which is this process's alone until the lock is destroyed.
///
/// A folder that has the name is moved aside, to `<path>.1`, `<path>.2`, ..., unless a process that
/// is alive, on any machine that sees the folder, holds it: then UsageError says who. Throws Error
/// where the folder cannot be made.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& path);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// Where what had the name is now; empty where nothing had.
  const std::filesystem::path& aside() const noexcept { return aside_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path aside_;
  int descriptor_ = -1;
};

}  // namespace isobar
