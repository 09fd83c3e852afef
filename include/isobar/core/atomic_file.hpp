// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

namespace isobar {

/// A file that appears under its name complete, or not at all.
///
/// Bytes go to a temporary file in the same folder; commit() makes it durable
/// (fsync of the file and, after the rename, of the folder) and gives it its
/// name, in place of a file that had it; of a symbolic link, in place of the file
/// that it names. Without commit() the destructor removes the temporary file.
/// Every failure is an Error with path and cause; a device, a pipe or a socket of
/// that name is a UsageError.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);

  /// Where the bytes are until commit(), for a library that writes files by itself:
  /// it may write this one, and has to close it before commit().
  const std::filesystem::path& temporary() const noexcept { return temporary_; }

  /// Ends the file; nothing can be written afterwards.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// Writes a whole file by AtomicFile; to a device or a pipe, such as /dev/null, the bytes
/// go as they are.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// Makes the names in a folder durable: files created, renamed or removed in it.
void sync_folder(const std::filesystem::path& folder);

}  // namespace isobar
