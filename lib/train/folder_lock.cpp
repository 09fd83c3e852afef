// SPDX-License-Identifier: Apache-2.0
// Made on rank 0 by RunFolder, which holds it as long as the run.
//
// A folder belongs to whoever has a lock (flock) on the file `run.lock` in it; the system gives
// that up when the process ends, however it does. So that nobody ever sees a folder of this run
// without its lock, the folder is made under another name and renamed, which fails while the name
// is taken. Moving a folder aside needs its lock, and needs the file that was locked to be the one
// that lies there still: of two processes that find the folder of a run that has ended, one moves
// it.
#include "train/folder_lock.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <sys/file.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLockName = "run.lock";
constexpr int kTries = 100;

[[noreturn]] void fail_to_make(const fs::path& path, const std::string& what) {
  throw Error(fmt::format("run folder '{}' cannot be made: {}", path.string(), what));
}

/// Whether that name is still the open file's.
bool is_file(int descriptor, const fs::path& path) {
  struct stat opened {
  }, named{};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

/// A file of a folder, created where it is missing; nothing where the folder is.
class LockFile {
 public:
  explicit LockFile(const fs::path& path)
      : path_(path), descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {}
  ~LockFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  bool is_open() const { return descriptor_ >= 0; }

  /// False where another process holds it. File systems without locks say so by other errors:
  /// there it counts as held by this one, and two runs at once are not noticed.
  bool lock() { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

  bool lies_there_still() const { return is_file(descriptor_, path_); }

  std::string text() const {
    std::array<char, 256> bytes{};
    const auto read = ::pread(descriptor_, bytes.data(), bytes.size(), 0);
    return {bytes.data(), static_cast<size_t>(std::max<ssize_t>(read, 0))};
  }

  void write(const std::string& text) {
    if (::ftruncate(descriptor_, 0) != 0 ||
        ::pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
      fail_to_make(path_, std::strerror(errno));
    }
  }

  int release() { return std::exchange(descriptor_, -1); }

 private:
  fs::path path_;
  int descriptor_;
};

std::string this_process() {
  return fmt::format("process {} on {}, since {:%Y-%m-%dT%H:%M:%SZ}", ::getpid(), host_name(),
                     fmt::gmtime(std::time(nullptr)));
}

fs::path move_aside(const fs::path& path) {
  for (int n = 1;; ++n) {
    fs::path aside = path.string() + "." + std::to_string(n);
    if (fs::exists(aside)) continue;
    fs::rename(path, aside);
    return aside;
  }
}

/// Moves what has the name aside, if it is nobody's, and says where to. Where it was somebody's for
/// a moment only, nothing happens, and the caller tries again.
fs::path clear_name(const fs::path& path) {
  if (!fs::is_directory(path)) return fs::exists(path) ? move_aside(path) : fs::path();
  LockFile old(path / kLockName);
  if (!old.is_open()) {
    if (errno == ENOENT) return {};
    fail_to_make(path, fmt::format("{}: {}", kLockName, std::strerror(errno)));
  }
  if (!old.lock()) {
    throw UsageError(fmt::format(
        "run folder '{}' is another run's, which goes on ({}); give this one another run.name, or "
        "wait for the other's end",
        path.string(), old.text()));
  }
  if (!old.lies_there_still()) return {};
  auto aside = move_aside(path);
  std::error_code none;
  fs::remove(aside / kLockName, none);  // one of this name is a run's that goes on
  return aside;
}

/// A new folder beside the one that it will become, with the rights that mkdir gives any other.
fs::path make_hidden(const fs::path& path, const fs::path& parent) {
  for (int n = 0;; ++n) {
    auto made = parent / fmt::format(".{}.{}.{}", path.filename().string(), ::getpid(), n);
    if (::mkdir(made.c_str(), 0777) == 0) return made;
    if (errno != EEXIST) fail_to_make(path, std::strerror(errno));
  }
}

}  // namespace

FolderLock::FolderLock(const fs::path& path) : path_(path) {
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  fs::path made;
  try {
    fs::create_directories(parent);
    made = make_hidden(path, parent);
    LockFile own(made / kLockName);
    if (!own.is_open() || !own.lock()) fail_to_make(path, std::strerror(errno));
    own.write(this_process());
    for (int tries = 0; ::rename(made.c_str(), path.c_str()) != 0; ++tries) {
      const bool taken = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR;
      if (!taken || tries == kTries) fail_to_make(path, std::strerror(errno));
      if (auto aside = clear_name(path); !aside.empty()) aside_ = std::move(aside);
    }
    descriptor_ = own.release();
  } catch (const fs::filesystem_error& error) {
    std::error_code none;
    fs::remove_all(made, none);
    fail_to_make(path, error.code().message());
  } catch (...) {
    std::error_code none;
    if (!made.empty()) fs::remove_all(made, none);
    throw;
  }
}

FolderLock::~FolderLock() {
  // The folder may be gone, and its name another run's.
  std::error_code none;
  if (is_file(descriptor_, path_ / kLockName)) fs::remove(path_ / kLockName, none);
  ::close(descriptor_);
}

}  // namespace isobar
