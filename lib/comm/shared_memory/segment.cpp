// SPDX-License-Identifier: Apache-2.0
// Making a segment is a protocol between processes of which any may be killed at any line. Rank 0
// makes the name, holds a lock on it that ends with its process, fills the header and stores
// `ready`; the others open the name, take it for a dead one where nobody holds the lock, and say
// that they are there. Anybody may make a name: one that is not this user's alone is refused, and
// never locked, mapped or removed. The name goes once all are there. Afterwards every thread of
// every rank uses the memory, by atomics alone: each word is written by one rank, but for counters,
// the phase of the barrier and the failure, which the first to claim it writes.
#include "comm/shared_memory/segment.hpp"

#include <isobar/core/error.hpp>

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "comm/backend/fork.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/backend/rank_list.hpp"

namespace isobar {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kReady = 0x69736f32;
constexpr std::chrono::microseconds kAttachNap{100};
constexpr int64_t kPage = 4096;
/// Of all names that make_communicator() gives.
constexpr auto kNamePrefix = "isobar-";
/// Where shm_open(3) keeps them on Linux.
const std::string kFolder = "/dev/shm";

int64_t rounded_up(int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; }

/// Small enough that a piece stays in the caches from the copy in to the copy out (with four ranks
/// on two cores 128 KiB took 0.6 of the time of 1 MiB), and large enough that many ranks have more
/// to do than to wait for each other.
int64_t slot_bytes_for(int size) {
  constexpr int64_t kEach = 32 * 1024;
  return std::clamp<int64_t>(size * kEach, 4 * kEach, 16 * kEach);
}

/// Small where there are many: a rank has one to each other.
int64_t ring_bytes_for(int size) {
  constexpr uint64_t kAll = 2 * 1024 * 1024;
  constexpr uint64_t kSmallest = 4096;
  constexpr uint64_t kLargest = 64 * 1024;
  return static_cast<int64_t>(
      std::clamp(std::bit_floor(kAll / static_cast<uint64_t>(size)), kSmallest, kLargest));
}

std::string where(const SharedSegment::Spec& spec) {
  return detail::join("shared memory '", spec.name, "' on rank ", spec.rank, " of ", spec.size,
                      ": ");
}

[[noreturn]] void throw_system(const SharedSegment::Spec& spec, const char* call, int error) {
  throw CommError(detail::join(where(spec), call, ": ", std::strerror(error)));
}

std::string path_of(const SharedSegment::Spec& spec) { return "/" + spec.name; }

/// An object of shared memory, open to the end of its scope; a forked child has none, whenever it
/// is forked.
class Descriptor {
 public:
  Descriptor() = default;
  /// By shm_open; negative where that fails, errno says why.
  Descriptor(const std::string& path, int flags)
      : number_(open_unshared([&path, flags] { return shm_open(path.c_str(), flags, 0600); })) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  ~Descriptor() {
    if (number_ >= 0) close_unshared(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_ = -1;
};

/// Why an object is none of ours; empty for one that is this user's alone, as all are that are made
/// here.
std::string why_foreign(const struct stat& entry) {
  if (entry.st_uid != geteuid()) {
    return detail::join("belongs to user ", entry.st_uid, ", wanted ", geteuid());
  }
  const bool is_private = S_ISREG(entry.st_mode) && (entry.st_mode & 0077) == 0;
  return is_private ? std::string() : "may be used by others, wanted mode 600";
}

std::string why_foreign(int descriptor) {
  struct stat entry {};
  return fstat(descriptor, &entry) == 0 ? why_foreign(entry) : std::strerror(errno);
}

/// Of what cannot even be opened.
std::string why_foreign(const std::string& path) {
  struct stat entry {};
  return lstat((kFolder + path).c_str(), &entry) == 0 ? why_foreign(entry) : std::string();
}

[[noreturn]] void throw_foreign(const SharedSegment::Spec& spec, const std::string& why) {
  throw CommError(detail::join(where(spec), "what has this name ", why,
                               "; it is not this job's: have it removed from ", kFolder));
}

bool is_named(const std::string& path, int descriptor) {
  struct stat entry {};
  struct stat named {};
  const Descriptor there(path, O_RDONLY);
  return there.number() >= 0 && fstat(descriptor, &entry) == 0 &&
         fstat(there.number(), &named) == 0 && entry.st_ino == named.st_ino;
}

/// Removes the name where the process that made it has ended; false where it lives, or is none of
/// ours.
bool remove_left_behind(const std::string& path) {
  const Descriptor there(path, O_RDWR);
  if (there.number() < 0) return errno == ENOENT;
  if (!why_foreign(there.number()).empty()) return false;
  if (flock(there.number(), LOCK_EX | LOCK_NB) != 0) return false;
  if (is_named(path, there.number())) shm_unlink(path.c_str());
  return true;
}

/// Gives back the memory of this user's starts that were killed.
void remove_all_left_behind() {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder, none)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(kNamePrefix)) remove_left_behind("/" + name);
  }
}

/// A new name and the lock on it. Who looks for names left behind may be between the two: then
/// the name is gone again.
Descriptor make_locked(const SharedSegment::Spec& spec) {
  // Another rank that looks whether the name is alive locks it for a moment as well.
  constexpr int kTries = 100;
  const auto path = path_of(spec);
  for (int tries = 0;; ++tries) {
    Descriptor made(path, O_CREAT | O_EXCL | O_RDWR);
    const int error = errno;
    if (made.number() < 0 && error == EEXIST) {
      if (remove_left_behind(path)) continue;
      if (const auto why = why_foreign(path); !why.empty()) throw_foreign(spec, why);
      if (tries < kTries) {
        std::this_thread::sleep_for(kAttachNap);
        continue;
      }
    }
    if (made.number() < 0) throw_system(spec, "shm_open", error);
    if (flock(made.number(), LOCK_EX) == 0 && is_named(path, made.number())) return made;
  }
}

/// Removes the name at the end of its scope: rank 0 once all have attached, and whoever gives up.
class Unlink {
 public:
  Unlink(const SharedSegment::Spec& spec, bool always) : spec_(spec), wanted_(always) {}
  ~Unlink() {
    const auto path = path_of(spec_);
    const bool gone = wanted_ || std::uncaught_exceptions() > 0;
    if (gone && why_foreign(path).empty()) shm_unlink(path.c_str());
  }
  Unlink(const Unlink&) = delete;
  Unlink& operator=(const Unlink&) = delete;

 private:
  const SharedSegment::Spec& spec_;
  bool wanted_;
};

}  // namespace

SharedSegment::SharedSegment(int size)
    : size_(size), slot_bytes_(slot_bytes_for(size)), ring_bytes_(ring_bytes_for(size)) {}

SharedSegment::~SharedSegment() { unmap(); }

void SharedSegment::unmap() noexcept {
  if (memory_) munmap(memory_, static_cast<size_t>(total_bytes()));
  memory_ = nullptr;
}

std::shared_ptr<SharedSegment> SharedSegment::attach(const Spec& spec,
                                                     std::chrono::milliseconds timeout,
                                                     const FirstCause& cause) {
  const auto deadline = Clock::now() + timeout;
  const std::shared_ptr<SharedSegment> segment(new SharedSegment(spec.size));
  bool is_open = false;
  const auto nap = [&] {
    cause.check();
    if (is_open && !segment->failure().empty()) throw CommError(segment->failure());
    if (Clock::now() > deadline) {
      throw CommError(detail::join(where(spec), "not attached within ", in_words(timeout), ": ",
                                   is_open ? segment->absent() : "rank 0"));
    }
    std::this_thread::sleep_for(kAttachNap);
  };
  if (spec.rank == 0) remove_all_left_behind();
  const Descriptor lock = spec.rank == 0 ? make_locked(spec) : Descriptor();
  const Unlink unlink(spec, spec.rank == 0);
  if (spec.rank == 0) segment->create(spec, lock.number());
  while (spec.rank != 0 && !segment->open(spec)) nap();
  is_open = true;
  segment->arrive(spec);
  while (!segment->absent().empty()) nap();
  return segment;
}

std::shared_ptr<SharedSegment> SharedSegment::anonymous(int size) {
  std::shared_ptr<SharedSegment> segment(new SharedSegment(size));
  const auto bytes = static_cast<size_t>(segment->total_bytes());
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw_system({"", 0, size}, "mmap", errno);
  segment->memory_ = static_cast<char*>(memory);
  for (int r = 0; r < size; ++r) {
    segment->block(r).process = this_process();
    segment->block(r).presence = Presence::attached;
  }
  return segment;
}

void SharedSegment::create(const Spec& spec, int descriptor) {
  if (ftruncate(descriptor, total_bytes()) != 0) throw_system(spec, "ftruncate", errno);
  commit(descriptor, 0, rank_offset(0), spec);
  map(descriptor, spec);
  header().size = size_;
  header().ready.store(kReady, std::memory_order_release);
  commit(descriptor, rank_offset(0), rank_bytes(), spec);
}

bool SharedSegment::open(const Spec& spec) {
  const Descriptor descriptor(path_of(spec), O_RDWR);
  const int error = errno;
  if (descriptor.number() < 0 && error == ENOENT) return false;
  const auto why =
      descriptor.number() < 0 ? why_foreign(path_of(spec)) : why_foreign(descriptor.number());
  if (!why.empty()) throw_foreign(spec, why);
  if (descriptor.number() < 0) throw_system(spec, "shm_open", error);
  if (flock(descriptor.number(), LOCK_SH | LOCK_NB) == 0) return false;  // of a rank 0 that ended
  struct stat entry {};
  if (fstat(descriptor.number(), &entry) != 0) throw_system(spec, "fstat", errno);
  if (entry.st_size == 0) return false;  // rank 0 is between two calls
  if (entry.st_size != total_bytes()) {
    throw CommError(detail::join(where(spec), "rank 0 made it with ", entry.st_size,
                                 " bytes, wanted ", total_bytes(),
                                 "; all ranks must give the same size"));
  }
  map(descriptor.number(), spec);
  if (header().ready.load(std::memory_order_acquire) != kReady || is_left_behind()) {
    unmap();
    return false;
  }
  commit(descriptor.number(), rank_offset(spec.rank), rank_bytes(), spec);
  return true;
}

// The lock does not tell: who removes what a start left behind holds it for a moment, too.
bool SharedSegment::is_left_behind() const {
  const auto& first = block(0);
  const auto presence = first.presence.load(std::memory_order_acquire);
  if (presence == Presence::absent) return failure().empty();
  return presence == Presence::attached && has_ended(first.process);
}

void SharedSegment::map(int descriptor, const Spec& spec) {
  void* memory = mmap(nullptr, static_cast<size_t>(total_bytes()), PROT_READ | PROT_WRITE,
                      MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) throw_system(spec, "mmap", errno);
  memory_ = static_cast<char*>(memory);
}

// Memory that is only promised is a SIGBUS when /dev/shm is full. Each rank takes its own part, so
// that it lies in the memory of the rank's own socket.
void SharedSegment::commit(int descriptor, int64_t first, int64_t count, const Spec& spec) {
  const int error = posix_fallocate(descriptor, first, count);
  if (error == 0) return;
  const auto message =
      detail::join(where(spec), "no room for ", count, " bytes in /dev/shm: ", std::strerror(error),
                   "; enlarge it (docker: --shm-size)");
  if (memory_) post_failure(message);
  throw CommError(message);
}

void SharedSegment::arrive(const Spec& spec) {
  auto& own = block(spec.rank);
  own.process = this_process();
  own.presence.store(Presence::attached, std::memory_order_release);
}

std::string SharedSegment::absent() const {
  std::vector<int> ranks;
  for (int r = 0; r < size_; ++r) {
    if (block(r).presence.load(std::memory_order_acquire) == Presence::absent) ranks.push_back(r);
  }
  return rank_list(ranks);
}

int64_t SharedSegment::rank_bytes() const noexcept {
  return rounded_up(2 * slot_bytes_ + size_ * (kRingHeadBytes + ring_bytes_), kPage);
}

int64_t SharedSegment::rank_offset(int rank) const noexcept {
  const auto blocks = static_cast<int64_t>(sizeof(RankBlock)) * size_;
  return rounded_up(sizeof(SegmentHeader) + blocks, kPage) + rank * rank_bytes();
}

int64_t SharedSegment::total_bytes() const noexcept { return rank_offset(size_); }

SegmentHeader& SharedSegment::header() const noexcept {
  return *reinterpret_cast<SegmentHeader*>(memory_);
}

RankBlock& SharedSegment::block(int rank) const noexcept {
  return reinterpret_cast<RankBlock*>(memory_ + sizeof(SegmentHeader))[rank];
}

char* SharedSegment::slot(int rank, int64_t turn) const noexcept {
  return memory_ + rank_offset(rank) + turn % 2 * slot_bytes_;
}

Ring& SharedSegment::ring(int from, int to) const noexcept {
  const auto offset = 2 * slot_bytes_ + to * (kRingHeadBytes + ring_bytes_);
  return *reinterpret_cast<Ring*>(memory_ + rank_offset(from) + offset);
}

void SharedSegment::post_failure(const std::string& message) noexcept {
  auto& text = header().failure;
  uint32_t none = 0;
  if (!header().failure_state.compare_exchange_strong(none, 1)) return;
  message.copy(text.data(), text.size() - 1);
  header().failure_state.store(2, std::memory_order_release);
  wake_all();
}

std::string SharedSegment::failure() const {
  if (header().failure_state.load(std::memory_order_acquire) != 2) return {};
  return header().failure.data();
}

void SharedSegment::leave(int rank, Presence how) noexcept {
  block(rank).presence.store(how, std::memory_order_release);
  wake_all();
}

void SharedSegment::ring_doorbell(int rank) noexcept {
  auto& block = this->block(rank);
  block.doorbell.fetch_add(1);
  if (block.doorbell_sleepers.load() > 0) futex_wake_all(block.doorbell);
}

void SharedSegment::wake_all() noexcept {
  futex_wake_all(header().phase);
  for (int r = 0; r < size_; ++r) futex_wake_all(block(r).doorbell);
}

}  // namespace isobar
