// SPDX-License-Identifier: Apache-2.0
// Recursive halving and doubling (Rabenseifner 2004; Thakur, Rabenseifner and Gropp 2005, section
// 4.5). In each step a rank gives one half of what it still sums to a partner and adds the
// partner's values to the other half; then the sums come back the same way. It moves the bytes of a
// ring in 2 log2(n) steps to as many peers. The nearest rank is the first partner, so that the long
// halves stay inside a node, as those of a ring do, and what crosses its link is what is left. Of a
// number of ranks that is no power of two, some first give their values to a neighbour, and get the
// result from it. Every element is summed on one rank, by one tree of ranks, and then copied: the
// same bits on all.
#include <algorithm>
#include <bit>

#include "comm/backend/tensor_bytes.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {
namespace {

class Halving {
 public:
  Halving(const Operation& operation, int rank, int size, const ScheduleTuning& tuning)
      : values_(bytes_of(operation.output)),
        count_(operation.output.numel()),
        width_(static_cast<int64_t>(operation.output.element_size())),
        rank_(rank),
        halving_ranks_(static_cast<int>(std::bit_floor(static_cast<unsigned>(size)))),
        pairs_(size - halving_ranks_),
        segment_(std::max<int64_t>(tuning.segment_bytes / width_, 1)),
        slots_(std::max<int64_t>(tuning.window_bytes / (segment_ * width_), 1)) {
    schedule_.type = operation.output.scalar_type();
    schedule_.op = operation.reduce;
    schedule_.scratch = std::make_unique_for_overwrite<char[]>(slots_ * segment_ * width_);
  }

  Schedule build() {
    const bool is_paired = rank_ < 2 * pairs_;
    if (is_paired && rank_ % 2 == 0) {
      send(rank_ + 1, everything());
      receive(rank_ + 1, everything(), sent());
      return std::move(schedule_);
    }
    if (is_paired) add(rank_ - 1, everything());
    halve_and_double();
    if (is_paired) send(rank_ - 1, everything());
    return std::move(schedule_);
  }

 private:
  /// Elements of the buffer.
  struct Range {
    int64_t begin;
    int64_t end;
  };

  struct Step {
    int partner;
    Range kept;
    Range given;
    /// Sends until `given` is out.
    int64_t sent;
  };

  Range everything() const { return {0, count_}; }

  /// A rank's number among those that halve, and who has a number.
  int number() const { return rank_ < 2 * pairs_ ? rank_ / 2 : rank_ - pairs_; }
  int rank_of(int number) const { return number < pairs_ ? 2 * number + 1 : number + pairs_; }

  /// Ranks whose numbers agree in all bits below `distance` have the same `range`.
  Step split(const Range& range, int distance) const {
    const auto middle = range.begin + (range.end - range.begin) / 2;
    const Range lower{range.begin, middle};
    const Range upper{middle, range.end};
    const bool keeps_upper = (number() & distance) != 0;
    return {rank_of(number() ^ distance), keeps_upper ? upper : lower, keeps_upper ? lower : upper,
            0};
  }

  void halve_and_double() {
    std::vector<Step> steps;
    auto range = everything();
    for (int distance = 1; distance < halving_ranks_; distance *= 2) {
      auto& step = steps.emplace_back(split(range, distance));
      send(step.partner, step.given);
      step.sent = sent();
      add(step.partner, step.kept);
      range = step.kept;
    }
    for (; !steps.empty(); steps.pop_back()) {
      const auto& step = steps.back();
      send(step.partner, step.kept);
      receive(step.partner, step.given, step.sent);
    }
  }

  template <typename Each>
  void for_segments(const Range& range, const Each& each) {
    for (int64_t first = range.begin; first < range.end; first += segment_) {
      each(values_ + first * width_, std::min(segment_, range.end - first));
    }
  }

  /// It holds whatever has arrived so far.
  void send(int peer, const Range& range) {
    const auto after = arrived();
    for_segments(range, [&](char* data, int64_t count) {
      schedule_.sends.push_back({peer, data, count * width_, after, 0});
    });
  }

  void add(int peer, const Range& range) {
    for_segments(range, [&](char* data, int64_t count) {
      auto* slot = schedule_.scratch.get() + arrived() % slots_ * segment_ * width_;
      // The slot was last used so many receives ago, and combined.
      const auto after = std::max<int64_t>(arrived() - slots_ + 1, 0);
      schedule_.receives.push_back({peer, slot, count * width_, after, 0});
      schedule_.combinations.push_back({arrived(), data, {data, slot}, count});
    });
  }

  /// A result overwrites what this rank has given away.
  void receive(int peer, const Range& range, int64_t after_sent) {
    for_segments(range, [&](char* data, int64_t count) {
      schedule_.receives.push_back({peer, data, count * width_, 0, after_sent});
    });
  }

  int64_t arrived() const { return static_cast<int64_t>(schedule_.receives.size()); }
  int64_t sent() const { return static_cast<int64_t>(schedule_.sends.size()); }

  char* values_;
  int64_t count_;
  int64_t width_;
  int rank_;
  int halving_ranks_;
  /// Ranks beyond the power of two; each has a neighbour that sums for it.
  int pairs_;
  /// Elements of a message.
  int64_t segment_;
  int64_t slots_;
  Schedule schedule_;
};

}  // namespace

Schedule halving_schedule(const Operation& operation, int rank, int size,
                          const ScheduleTuning& tuning) {
  return Halving(operation, rank, size, tuning).build();
}

}  // namespace isobar
