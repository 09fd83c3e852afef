// SPDX-License-Identifier: Apache-2.0
#include "bench/folder_trial.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/stopwatch.hpp>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace isobar::bench {
namespace {

constexpr std::size_t kBlock = 1 << 20;

void check_call(bool well, const char* call) {
  if (!well) throw Error(fmt::format("{}: {}", call, std::strerror(errno)));
}

/// A file that is gone when this is.
class TrialFile {
 public:
  explicit TrialFile(std::string path)
      : path_(std::move(path)),
        descriptor_(open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {
    check_call(descriptor_ >= 0, "open");
  }
  ~TrialFile() {
    close(descriptor_);
    unlink(path_.c_str());
  }
  TrialFile(const TrialFile&) = delete;
  TrialFile& operator=(const TrialFile&) = delete;

  int get() const noexcept { return descriptor_; }

 private:
  std::string path_;
  int descriptor_;
};

/// Bytes that tell blocks and writers apart.
std::vector<char> block_of(std::uint64_t seed, std::int64_t number) {
  std::vector<char> block(kBlock);
  std::uint64_t state = seed + static_cast<std::uint64_t>(number);
  for (auto& byte : block) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
    byte = static_cast<char>(state >> 56);
  }
  return block;
}

void write_all(int descriptor, const std::vector<char>& block, std::int64_t at) {
  for (std::size_t done = 0; done < block.size();) {
    const auto wrote = pwrite(descriptor, block.data() + done, block.size() - done,
                              at + static_cast<std::int64_t>(done));
    check_call(wrote > 0, "write");
    done += static_cast<std::size_t>(wrote);
  }
}

/// Whether the file has the block there.
bool reads_back(int descriptor, const std::vector<char>& block, std::int64_t at) {
  std::vector<char> got(block.size());
  for (std::size_t done = 0; done < got.size();) {
    const auto read = pread(descriptor, got.data() + done, got.size() - done,
                            at + static_cast<std::int64_t>(done));
    check_call(read >= 0, "read");
    if (read == 0) return false;
    done += static_cast<std::size_t>(read);
  }
  return got == block;
}

void write_and_read(FolderReport& report, const std::string& path, std::uint64_t seed) {
  const TrialFile file(path);
  const auto blocks = std::max<std::int64_t>(1, report.file_bytes / static_cast<int64_t>(kBlock));
  const auto place = [](std::int64_t block) { return block * static_cast<int64_t>(kBlock); };
  Stopwatch watch;
  for (std::int64_t i = 0; i < blocks; ++i) write_all(file.get(), block_of(seed, i), place(i));
  check_call(fsync(file.get()) == 0, "fsync");
  report.write_s = watch.elapsed_s();
  // From the disk, where the system follows the advice.
  posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  watch = Stopwatch();
  for (std::int64_t i = 0; i < blocks; ++i) {
    if (!reads_back(file.get(), block_of(seed, i), place(i)))
      throw Error("other bytes were read than had been written");
  }
  report.read_s = watch.elapsed_s();
}

}  // namespace

FolderReport try_folder(const std::string& folder, std::int64_t bytes, const std::string& who) {
  FolderReport report{.folder = folder, .file_bytes = bytes};
  if (folder.empty()) {  // with a file's name behind it, it would be the root
    report.problem = "the folder's name is empty";
    return report;
  }
  struct statvfs system {};
  if (statvfs(folder.c_str(), &system) == 0) {
    report.free_bytes =
        static_cast<std::int64_t>(system.f_bavail) * static_cast<std::int64_t>(system.f_frsize);
  }
  try {
    write_and_read(report, fmt::format("{}/.isobar-preflight-{}-{}", folder, who, getpid()),
                   fnv1a(who));
  } catch (const std::exception& error) {
    report.problem = error.what();
  }
  return report;
}

}  // namespace isobar::bench
