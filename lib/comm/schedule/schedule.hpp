// SPDX-License-Identifier: Apache-2.0
// What one rank sends, receives and adds in a collective made of messages, as data: it needs no
// MPI, so that tests can run all ranks of any world in one process.
#pragma once

#include <isobar/comm/operation.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace isobar {

/// How long messages are, and when they serve at all. Equal on all ranks. The values
/// are those that were best over 1 Gbit/s and were never far from it elsewhere.
struct ScheduleTuning {
  /// Buffers up to the larger of these go by the MPI library's own collectives.
  int64_t small_bytes = 8 << 10;
  int64_t small_bytes_each_rank = 1 << 10;
  /// Sums up to this, for each rank of the communicator, go by owners: two steps
  /// instead of the ring's 2(n-1).
  int64_t owner_bytes_each_rank = 32 << 10;
  /// Over more ranks than these the number of messages counts as their bytes do: sums go by halving
  /// unless they need an owner, whose messages have shortest_segment_bytes then. Over NCCL only the
  /// order of ranks keeps them with owners then (NcclOptions::few_ranks).
  int few_ranks = 64;
  /// Up to this for each rank, where the ranks are no power of two; above, a ring takes steps that
  /// are long beside their latency, and half the bytes.
  int64_t halving_bytes_each_rank = 128 << 10;
  /// A message, at most: Open MPI sends what is, with its own header, within 64 KiB
  /// over TCP without asking the receiver first.
  int64_t segment_bytes = 60 << 10;
  /// And at least, where shorter ones would fill the ring or the chain better, or go to each of
  /// many owners.
  int64_t shortest_segment_bytes = 16 << 10;
  /// What is under way in each direction, so that a link never idles.
  int64_t window_bytes = 1 << 20;
};

/// One message of a schedule. Those between two ranks are matched in their order.
struct Message {
  int peer = 0;
  char* data = nullptr;
  int64_t bytes = 0;
  /// What must have happened before: so many receives have arrived, so many sends
  /// are complete, counted from the first.
  int64_t after_arrived = 0;
  int64_t after_sent = 0;
};

/// The values of several ranks, in order, made one.
struct Combination {
  /// It happens when so many receives have arrived, before anything else that waits for them.
  int64_t when_arrived = 0;
  char* to = nullptr;
  std::vector<const void*> parts;
  int64_t count = 0;
};

/// What to look at, once, when so many receives have arrived and before anything else that waits
/// for them; it throws where they are not what they should be.
struct ArrivalCheck {
  int64_t when_arrived = 0;
  std::function<void()> run;
};

/// One rank's part in a collective. Receives count as arrived in their order, and
/// every wait is for something earlier on some rank, so that windows of any length
/// come to an end.
struct Schedule {
  std::vector<Message> sends;
  std::vector<Message> receives;
  std::vector<Combination> combinations;
  at::ScalarType type = at::kByte;
  ReduceOp op = ReduceOp::sum;
  /// Operation::divisor.
  double divisor = 1;
  ArrivalCheck check;
  /// Where the messages on their way lie.
  std::unique_ptr<char[]> scratch;
};

using MakeSchedule = Schedule (*)(const Operation& operation, int rank, int size,
                                  const ScheduleTuning& tuning);

/// A ring over all ranks: reduce_scatter and all_gather, one running into the other, for
/// allreduce; one of its halves for those two. A result is computed on one rank and
/// copied, so it has the same bits everywhere; they depend on the number of ranks
/// and the place in the buffer.
Schedule ring_schedule(const Operation& operation, int rank, int size,
                       const ScheduleTuning& tuning);

/// allreduce and reduce_scatter by owners: each rank combines a slice, with the
/// values in the order of ranks, and hands it out. Of more than few_ranks only so many own a slice
/// of an allreduce that it has shortest_segment_bytes. The one schedule for sums that are divided.
/// The same bits as every backend that combines so, whatever the tuning.
Schedule owner_schedule(const Operation& operation, int rank, int size,
                        const ScheduleTuning& tuning);

/// allreduce by recursive halving and doubling: 2 log2(n) steps, with the bytes of a ring; two
/// steps more, and the whole buffer to a neighbour and back, where n is no power of two. The same
/// bits on every rank; they depend on the number of ranks and the place in the buffer.
Schedule halving_schedule(const Operation& operation, int rank, int size,
                          const ScheduleTuning& tuning);

/// What an allreduce or a reduce_scatter of so many bytes goes by that needs no owner
/// (needs_owner()). Equal on all ranks.
MakeSchedule sum_schedule(OperationKind kind, int64_t bytes, int size,
                          const ScheduleTuning& tuning);

/// all_to_all: each rank to each other, the nearest first. The last message to each
/// is shorter than a segment, so that ranks that disagree on a length find it out.
Schedule exchange_schedule(const Operation& operation, int rank, int size,
                           const ScheduleTuning& tuning);

/// broadcast: from each rank to the next, beginning at the root.
Schedule chain_schedule(const Operation& operation, int rank, int size,
                        const ScheduleTuning& tuning);

}  // namespace isobar
