// SPDX-License-Identifier: Apache-2.0
// What the ranks of a node see in common. Plain data and atomics; nothing in it is ever destroyed,
// since a rank may be killed at any instruction.
#pragma once

#include <isobar/comm/operation.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "comm/backend/call.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/shared_memory/futex.hpp"
#include "comm/shared_memory/process_life.hpp"

namespace isobar {

/// Two ranks' words never share a cache line; two lines, since they are fetched in pairs.
inline constexpr size_t kApart = 128;

/// What a rank calls, for comparison by its peers before any data is used.
struct Announcement {
  int64_t sequence = -1;
  Call call;
  /// Of an all_to_all a hash of the signature, which tells the shape of a row; the numbers of rows
  /// are each rank's own.
  uint64_t rows = 0;

  bool operator==(const Announcement&) const = default;
};

struct Announced {
  Announcement announcement;
  /// Operation::signature(), cut to fit and ended by a zero.
  std::array<char, 200> signature;
};

enum class Presence : uint32_t { absent, attached, left, left_by_exception };

/// What one rank tells the others.
struct alignas(kApart) RankBlock {
  std::atomic<Presence> presence;
  ProcessId process;
  /// How many phases of the barrier it has come to the end of.
  Futex arrived;
  /// When it last looked after its messages, waiting for one, by the node's steady clock.
  std::atomic<int64_t> looked_ns;
  /// Collectives alternate, so that one is read while the next is written.
  std::array<Announced, 2> announced;
  /// Rung when bytes or room for them are there; who sleeps on it is counted.
  alignas(kApart) Futex doorbell;
  Futex doorbell_sleepers;
};

/// How far the sender and the receiver of a ring have come; its bytes follow.
struct Ring {
  alignas(kApart) std::atomic<uint64_t> written;
  alignas(kApart) std::atomic<uint64_t> read;
};
inline constexpr int64_t kRingHeadBytes = sizeof(Ring);

struct SegmentHeader {
  Futex ready;
  int32_t size;
  alignas(kApart) Futex arrivals;
  alignas(kApart) Futex phase;
  Futex phase_sleepers;
  /// 0: none, 1: being written, 2: readable.
  alignas(kApart) Futex failure_state;
  std::array<char, 2000> failure;
};

/// A piece of memory that the ranks of one communicator map, each at an address
/// of its own. It has no name once all have attached, so it ends with the last of
/// them, however they end. Until then rank 0 holds a lock on it, which ends with the process:
/// a name without one was left by a start that was killed.
class SharedSegment {
 public:
  struct Spec {
    std::string name;
    int rank = 0;
    int size = 1;
  };

  /// Collective; blocks. Throws CommError naming the ranks that have not attached
  /// within `timeout`, and where there is no room in /dev/shm.
  static std::shared_ptr<SharedSegment> attach(const Spec& spec, std::chrono::milliseconds timeout,
                                               const FirstCause& cause);

  /// For ranks that are threads of this process: all have attached.
  static std::shared_ptr<SharedSegment> anonymous(int size);

  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  int size() const noexcept { return size_; }
  SegmentHeader& header() const noexcept;
  RankBlock& block(int rank) const noexcept;
  /// A rank has two slots, used in turn.
  char* slot(int rank, int64_t turn) const noexcept;
  int64_t slot_bytes() const noexcept { return slot_bytes_; }
  Ring& ring(int from, int to) const noexcept;
  int64_t ring_bytes() const noexcept { return ring_bytes_; }

  /// Makes `message` known to the ranks, unless one is, and wakes them.
  void post_failure(const std::string& message) noexcept;
  /// Empty while there is none.
  std::string failure() const;

  /// The rank takes part in nothing more.
  void leave(int rank, Presence how) noexcept;
  void ring_doorbell(int rank) noexcept;
  void wake_all() noexcept;

 private:
  explicit SharedSegment(int size);
  void create(const Spec& spec, int descriptor);
  bool open(const Spec& spec);
  /// Whether the rank 0 that made it has ended, or has not attached yet, as one may that was
  /// killed.
  bool is_left_behind() const;
  void map(int descriptor, const Spec& spec);
  void unmap() noexcept;
  void commit(int descriptor, int64_t first, int64_t count, const Spec& spec);
  void arrive(const Spec& spec);
  std::string absent() const;
  int64_t rank_offset(int rank) const noexcept;
  int64_t rank_bytes() const noexcept;
  int64_t total_bytes() const noexcept;

  int size_;
  int64_t slot_bytes_;
  int64_t ring_bytes_;
  char* memory_ = nullptr;
};

}  // namespace isobar
