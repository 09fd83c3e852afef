// SPDX-License-Identifier: Apache-2.0
// Called once for a world, by the thread that makes it. The file is on a file system that nodes may
// share: it is complete when it gets its name, by link(), which fails for all but the first on
// every file system, NFS too. What lies there is believed only if it is this user's alone.
#include <isobar/launch/secret.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/random_bytes.hpp>

#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include "launch/variables.hpp"

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr size_t kRandomBytes = 32;
/// No secret is longer, and a wrong file's name is soon told.
constexpr size_t kMostBytes = 4096;
/// A node may not see at once what another has made.
constexpr int kReads = 50;
constexpr std::chrono::milliseconds kNap{20};

std::string reason_of(int error) { return std::generic_category().message(error); }

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }

 private:
  int number_;
};

void check_private(const struct stat& found, const std::string& what, const fs::path& path,
                   const char* mode) {
  ISOBAR_CHECK(found.st_uid == geteuid(), "secret: ", what, " ", path.string(), " belongs to user ",
               found.st_uid, ", wanted ", geteuid(),
               "; set ISOBAR_SECRET_FILE to a file of your own");
  ISOBAR_CHECK((found.st_mode & 077) == 0, "secret: others may use ", what, " ", path.string(),
               "; run chmod ", mode, " ", path.string());
}

/// What is in the file; none where there is none. Throws UsageError for one that others may read.
std::optional<std::string> read_private(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0 && errno == ENOENT) return std::nullopt;
  ISOBAR_CHECK(file.get() >= 0, "secret: cannot read ", path.string(), ": ", reason_of(errno));
  struct stat found {};
  fstat(file.get(), &found);
  ISOBAR_CHECK(S_ISREG(found.st_mode), "secret: ", path.string(), " is no file");
  check_private(found, "file", path, "600");
  std::string text(kMostBytes, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const auto got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    ISOBAR_CHECK(got >= 0, "secret: cannot read ", path.string(), ": ", reason_of(errno));
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

/// A folder that this user alone may use, made where it is not there; false, with the reason in
/// `why`, where it cannot be made.
bool has_private_folder(const fs::path& folder, std::string& why) {
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    why = detail::join(folder.string(), ": ", reason_of(errno));
    return false;
  }
  struct stat found {};
  if (lstat(folder.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) {
    why = folder.string() + " is no folder";
    return false;
  }
  check_private(found, "folder", folder, "700");
  return true;
}

bool write_all(int file, const std::string& bytes) {
  const auto count = ::write(file, bytes.data(), bytes.size());
  return count == static_cast<ssize_t>(bytes.size()) && fsync(file) == 0;
}

/// Makes the file unless it is there; false, with the reason in `why`, where it cannot be made.
bool make_once(const fs::path& path, std::string& why) {
  const auto temporary =
      detail::join(path.string(), ".", host_name(), ".", fnv1a(random_bytes(16)));
  int failure = 0;
  {
    const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.get() < 0 || !write_all(file.get(), random_bytes(kRandomBytes))) {
      failure = errno != 0 ? errno : EIO;
    }
  }
  // NFS may answer a link that it has made with an error: what counts is whether a file is there.
  if (failure == 0 && link(temporary.c_str(), path.c_str()) != 0) failure = errno;
  unlink(temporary.c_str());
  struct stat found {};
  if (failure == 0 || failure == EEXIST || lstat(path.c_str(), &found) == 0) return true;
  why = detail::join(path.string(), ": ", reason_of(failure));
  return false;
}

/// The secret of that folder, which it then has; none, with the reason in `why`, where it cannot.
std::optional<std::string> secret_in(const fs::path& folder, std::string& why) {
  if (!has_private_folder(folder, why)) return std::nullopt;
  const auto path = folder / "secret";
  for (int i = 0; i < kReads; ++i) {
    auto secret = read_private(path);
    if (secret && secret->size() == kRandomBytes) return secret;
    if (!secret && !make_once(path, why)) return std::nullopt;
    if (secret || i > 0) std::this_thread::sleep_for(kNap);
  }
  throw UsageError(detail::join("secret: ", path.string(), " does not hold ", kRandomBytes,
                                " bytes; remove it, and the next start makes another"));
}

/// Where programs keep what is a user's and no configuration; empty without a home.
fs::path state_folder() {
  const fs::path state = variable("XDG_STATE_HOME");
  if (state.is_absolute()) return state;
  const fs::path home = variable("HOME");
  return home.is_absolute() ? home / ".local" / "state" : fs::path();
}

fs::path temporary_folder() {
  const fs::path folder = variable("TMPDIR");
  return folder.is_absolute() ? folder : fs::path("/tmp");
}

std::string checked_length(std::string secret, const std::string& source) {
  ISOBAR_CHECK(secret.size() >= kSecretBytes, source, " holds ", secret.size(),
               " bytes, wanted at least ", kSecretBytes, ", such as of: openssl rand -hex 32");
  return secret;
}

}  // namespace

std::optional<std::string> configured_secret() {
  if (auto secret = variable("ISOBAR_SECRET"); !secret.empty()) {
    return checked_length(std::move(secret), "ISOBAR_SECRET");
  }
  const auto path = variable("ISOBAR_SECRET_FILE");
  if (path.empty()) return std::nullopt;
  auto secret = read_private(path);
  ISOBAR_CHECK(secret, "secret: ISOBAR_SECRET_FILE names ", path, ", which is not there");
  while (!secret->empty() && (secret->back() == '\n' || secret->back() == '\r')) secret->pop_back();
  return checked_length(std::move(*secret), "secret: " + path);
}

std::string user_secret(const LaunchEnvironment& launch) {
  if (auto secret = configured_secret()) return *secret;
  std::string why = "there is no HOME";
  const auto state = state_folder();
  if (!state.empty()) {
    if (auto secret = secret_in(state / "isobar", why)) return *secret;
  }
  // Where nobody says how many ranks a node has, each one would guess another number.
  const bool knows_node = launch.launcher != "torchrun" || !variable("LOCAL_WORLD_SIZE").empty();
  if (knows_node && launch.local_size == launch.size) {
    const auto folder = temporary_folder() / detail::join("isobar-", geteuid());
    if (auto secret = secret_in(folder, why)) return *secret;
  }
  throw UsageError(detail::join("secret on rank ", launch.rank, " of ", launch.size,
                                ": no place for what the ranks know each other by (", why,
                                "); set ISOBAR_SECRET_FILE to a file that all ranks can read and "
                                "nobody else"));
}

}  // namespace isobar
