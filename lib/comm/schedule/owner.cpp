// SPDX-License-Identifier: Apache-2.0
// In each round every rank sends a segment of each slice to the slice's owner; the owner combines
// its own and hands the result out while the next round's segments fly. It moves the bytes of a
// ring, but a sum's order is that of the ranks. Of many ranks some own nothing where all slices
// would be short: a message costs what its first kilobytes do.
#include <algorithm>

#include "comm/backend/tensor_bytes.hpp"
#include "comm/schedule/parts.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {
namespace {

/// Rounds whose segments may lie here before they are combined; nor does a rank send further ahead,
/// since it would share links with those that are late.
constexpr int64_t kRounds = 3;

class Owners {
 public:
  Owners(const Operation& operation, int rank, int size, const ScheduleTuning& tuning)
      : hands_out_(operation.kind == OperationKind::allreduce),
        values_(hands_out_ ? operation.output : operation.input),
        output_(operation.output),
        rank_(rank),
        size_(size),
        width_(static_cast<int64_t>(output_.element_size())),
        parts_{values_.numel(), owners(tuning), 1} {
    parts_.segment = size > tuning.few_ranks ? long_segment(tuning) : segment(tuning) / width_;
    schedule_.type = output_.scalar_type();
    schedule_.op = operation.reduce;
    schedule_.divisor = operation.divisor;
  }

  Schedule build() {
    const auto rounds = parts_.segments();
    const auto slots = std::min(rounds, kRounds) * (size_ - 1);
    schedule_.scratch = std::make_unique_for_overwrite<char[]>(slots * slot_bytes());
    for (int64_t round = 0; round <= rounds; ++round) {
      if (round < rounds) contribute(round);
      if (round > 0 && hands_out_) hand_out(round - 1);
    }
    return std::move(schedule_);
  }

 private:
  /// The slices of a reduce_scatter are given.
  int64_t owners(const ScheduleTuning& tuning) const {
    if (size_ <= tuning.few_ranks || !hands_out_) return size_;
    const auto shortest = tuning.shortest_segment_bytes;
    return std::clamp<int64_t>((byte_count(values_) + shortest - 1) / shortest, 1, size_);
  }

  /// Elements of each message of a slice, which are of nearly equal length: of a shortest segment
  /// at least, if the slice is, and of two at most.
  int64_t long_segment(const ScheduleTuning& tuning) const {
    const auto slice = (parts_.count + parts_.parts - 1) / parts_.parts;
    const auto messages = std::max<int64_t>(slice * width_ / tuning.shortest_segment_bytes, 1);
    const auto longest = std::max<int64_t>(tuning.segment_bytes / width_, 1);
    return std::clamp<int64_t>((slice + messages - 1) / messages, 1, longest);
  }

  /// A round's messages of all ranks, both ways, fill half a window.
  int64_t segment(const ScheduleTuning& tuning) const {
    const auto share = tuning.window_bytes / (4 * (size_ - 1));
    const auto bytes = std::min(tuning.segment_bytes, std::max<int64_t>(share, 4096));
    return std::max(bytes, width_);
  }

  int64_t slot_bytes() const { return parts_.segment * width_; }
  int to(int distance) const { return (rank_ + distance) % size_; }
  int from(int distance) const { return (rank_ + size_ - distance) % size_; }
  int64_t arrived() const { return static_cast<int64_t>(schedule_.receives.size()); }
  int64_t sent() const { return static_cast<int64_t>(schedule_.sends.size()); }

  /// The first slice that no rank before owns: the owners lie evenly among the ranks.
  int64_t slice(int rank) const { return (rank * parts_.parts + size_ - 1) / size_; }

  char* values(int rank, int64_t round) const {
    return bytes_of(values_) + parts_.first(slice(rank), round) * width_;
  }
  /// None of a rank that owns no slice.
  int64_t bytes(int rank, int64_t round) const {
    const auto own = slice(rank);
    return own < slice(rank + 1) ? parts_.length(own, round) * width_ : 0;
  }

  /// Where this rank's result goes, which in a reduce_scatter is all of the output.
  char* result(int64_t round) const {
    return hands_out_ ? values(rank_, round) : bytes_of(output_) + round * slot_bytes();
  }

  void contribute(int64_t round) {
    std::vector<const void*> parts(static_cast<size_t>(size_), values(rank_, round));
    const auto mine = bytes(rank_, round);
    const auto after = round < kRounds ? 0 : combined_[round - kRounds];
    for (int d = 1; d < size_; ++d) {
      if (const auto theirs = bytes(to(d), round)) {
        schedule_.sends.push_back({to(d), values(to(d), round), theirs, after, 0});
      }
      if (mine == 0) continue;
      auto* slot = schedule_.scratch.get() + (round % kRounds * (size_ - 1) + d - 1) * slot_bytes();
      schedule_.receives.push_back({from(d), slot, mine, after, 0});
      parts[from(d)] = slot;
    }
    contributed_.push_back(sent());
    combined_.push_back(arrived());
    if (mine == 0) return;
    schedule_.combinations.push_back({arrived(), result(round), std::move(parts), mine / width_});
  }

  /// A result overwrites what this rank has contributed to it.
  void hand_out(int64_t round) {
    for (int d = 1; d < size_; ++d) {
      if (const auto mine = bytes(rank_, round)) {
        schedule_.sends.push_back({to(d), result(round), mine, combined_[round], 0});
      }
      if (const auto theirs = bytes(from(d), round)) {
        schedule_.receives.push_back(
            {from(d), values(from(d), round), theirs, 0, contributed_[round]});
      }
    }
  }

  bool hands_out_;
  const at::Tensor& values_;
  const at::Tensor& output_;
  int rank_;
  int size_;
  int64_t width_;
  Parts parts_;
  /// By round: receives until this rank's segment is combined, sends until all segments are out.
  std::vector<int64_t> combined_;
  std::vector<int64_t> contributed_;
  Schedule schedule_;
};

}  // namespace

Schedule owner_schedule(const Operation& operation, int rank, int size,
                        const ScheduleTuning& tuning) {
  return Owners(operation, rank, size, tuning).build();
}

}  // namespace isobar
