// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/atomic_file.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "core/file_error.hpp"

namespace isobar {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// The file that a link names: renaming over the link would leave that one as it was.
std::filesystem::path target_of(std::filesystem::path path) {
  std::error_code none;
  return std::filesystem::is_symlink(path, none) ? std::filesystem::weakly_canonical(path, none)
                                                 : path;
}

/// Devices and pipes are written to: a file in their place would be the end of them.
bool is_no_file(const std::filesystem::path& path) {
  std::error_code none;
  return std::filesystem::is_other(path, none);
}

void write_all(int descriptor, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) detail::throw_file_error("write", path);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// Closes a descriptor, whatever ends the scope.
struct Closed {
  int descriptor;
  ~Closed() { ::close(descriptor); }
};

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(target_of(std::move(path))) {
  ISOBAR_CHECK(!is_no_file(path_), "AtomicFile: ", path_.string(),
               " is a device, a pipe or a socket; name a file");
  // On a shared file system another node may have a process of this id: the
  // number settles it, since O_EXCL gives every name to one of them.
  for (int number = 0; descriptor_ < 0; ++number) {
    temporary_ = folder_of(path_) /
                 fmt::format(".{}.{}-{}.tmp", path_.filename().string(), ::getpid(), number);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) detail::throw_file_error("write", path_);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  ISOBAR_CHECK(descriptor_ >= 0, "AtomicFile: ", path_.string(), " was committed already");
  write_all(descriptor_, bytes, path_);
}

void AtomicFile::commit() {
  ISOBAR_CHECK(descriptor_ >= 0, "AtomicFile: ", path_.string(), " was committed already");
  if (::fsync(descriptor_) != 0) detail::throw_file_error("write", path_);
  // Some file systems report a full disk only here.
  if (::close(std::exchange(descriptor_, -1)) != 0) detail::throw_file_error("write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) detail::throw_file_error("write", path_);
  temporary_.clear();
  sync_folder(folder_of(path_));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  if (is_no_file(path)) {
    const Closed device{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    if (device.descriptor < 0) detail::throw_file_error("write", path);
    write_all(device.descriptor, bytes, path);
    return;
  }
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) detail::throw_file_error("open folder", folder);
  // Some network file systems do not sync folders and say EINVAL: there is
  // nothing more to be done there.
  const bool failed = ::fsync(descriptor) != 0 && errno != EINVAL;
  const int cause = errno;
  ::close(descriptor);
  errno = cause;
  if (failed) detail::throw_file_error("sync folder", folder);
}

}  // namespace isobar
