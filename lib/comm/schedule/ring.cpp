// SPDX-License-Identifier: Apache-2.0
// Chunk c of the buffer walks the ring: from rank c onwards each adds its values, until the rank
// before c has the sum, and from there on each copies it. In every step a rank sends one chunk and
// receives the one before it, segment by segment; a segment goes on as soon as it is there, so the
// link does not idle between the steps.
#include <algorithm>

#include "comm/backend/tensor_bytes.hpp"
#include "comm/schedule/parts.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {
namespace {

class RingReduction {
 public:
  RingReduction(const Operation& operation, int rank, int size, const ScheduleTuning& tuning)
      : operation_(operation),
        rank_(rank),
        size_(size),
        width_(static_cast<int64_t>(operation.output.element_size())),
        parts_{longest(operation), size, segment_bytes(operation, size, tuning) / width_},
        states_(static_cast<size_t>(size * parts_.segments())) {
    const auto window = std::max<int64_t>(tuning.window_bytes / (parts_.segment * width_), 1);
    // In reduce_scatter partial sums wait in a slot until it is their turn to be sent.
    slots_ = window + (scatters() ? parts_.segments() : 0);
  }

  Schedule build() {
    schedule_.type = operation_.output.scalar_type();
    schedule_.op = operation_.reduce;
    const int reducing = operation_.kind == OperationKind::all_gather ? 0 : size_ - 1;
    const int gathering = scatters() ? 0 : size_ - 1;
    if (reducing > 0) {
      schedule_.scratch = std::make_unique_for_overwrite<char[]>(slots_ * slot_bytes());
    } else {
      copy_own();
    }
    for (int step = 0; step < reducing + gathering; ++step) {
      for (int64_t s = 0; s < parts_.segments(); ++s) {
        send(chunk(step), s);
        if (step < reducing) {
          receive_partial(chunk(step + 1), s, step + 1 == reducing);
        } else {
          receive_result(chunk(step + 1), s);
        }
      }
    }
    return std::move(schedule_);
  }

 private:
  /// What became of a segment of a chunk so far.
  struct State {
    char* data = nullptr;
    int64_t ready = 0;
    int64_t sent = 0;
  };

  void copy_own() {
    schedule_.type = at::kByte;  // moved as it is
    const auto& input = operation_.input;
    auto* to = bytes_of(operation_.output) + rank_ * input.nbytes();
    schedule_.combinations.push_back({0, to, {bytes_of(input)}, byte_count(input)});
  }

  static int64_t longest(const Operation& operation) {
    const auto& input = operation.input;
    return std::max(operation.output.numel(), input.defined() ? input.numel() : 0);
  }

  /// Chunks of few segments would wait for each other at every step.
  static int64_t segment_bytes(const Operation& operation, int size, const ScheduleTuning& tuning) {
    constexpr int64_t kSegments = 8;
    const auto width = static_cast<int64_t>(operation.output.element_size());
    const auto chunk = longest(operation) * width / size;
    const auto bytes = std::max(chunk / kSegments, tuning.shortest_segment_bytes);
    return std::max(std::min(bytes, tuning.segment_bytes), width);
  }

  bool scatters() const { return operation_.kind == OperationKind::reduce_scatter; }
  int64_t slot_bytes() const { return parts_.segment * width_; }

  /// What is sent in this step; the last to be reduced here is this rank's own in a reduce_scatter.
  int chunk(int step) const {
    return ((rank_ - step - (scatters() ? 1 : 0)) % size_ + size_) % size_;
  }

  State& state(int chunk, int64_t s) { return states_[chunk * parts_.segments() + s]; }

  /// This rank's own values.
  char* own(int chunk, int64_t s) const {
    const auto& values = scatters() ? operation_.input : operation_.output;
    return bytes_of(values) + parts_.first(chunk, s) * width_;
  }

  /// Only in all_gather do a rank's own values lie elsewhere than their chunk.
  void send(int chunk, int64_t s) {
    const auto bytes = parts_.length(chunk, s) * width_;
    if (bytes == 0) return;
    auto& now = state(chunk, s);
    auto* data = now.data;
    if (!data) data = first_sent(chunk, s);
    schedule_.sends.push_back({(rank_ + 1) % size_, data, bytes, now.ready, 0});
    now.sent = sent();
  }

  char* first_sent(int chunk, int64_t s) const {
    if (operation_.kind != OperationKind::all_gather) return own(chunk, s);
    return bytes_of(operation_.input) + s * slot_bytes();
  }

  void receive_partial(int chunk, int64_t s, bool last) {
    const auto count = parts_.length(chunk, s);
    if (count == 0) return;
    auto& now = state(chunk, s);
    auto* slot = schedule_.scratch.get() + (arrived() % slots_) * slot_bytes();
    schedule_.receives.push_back({left(), slot, count * width_, after_slot(), sent_before_slot()});
    now.ready = arrived();
    now.data = scatters() ? slot : own(chunk, s);
    auto* to = scatters() && last ? bytes_of(operation_.output) + s * slot_bytes() : now.data;
    schedule_.combinations.push_back({arrived(), to, {own(chunk, s), slot}, count});
  }

  /// A result overwrites what this rank has sent of its own.
  void receive_result(int chunk, int64_t s) {
    const auto bytes = parts_.length(chunk, s) * width_;
    if (bytes == 0) return;
    auto& now = state(chunk, s);
    now.data = bytes_of(operation_.output) + parts_.first(chunk, s) * width_;
    schedule_.receives.push_back({left(), now.data, bytes, 0, now.sent});
    now.ready = arrived();
  }

  /// The slot of the next receive was last used so many receives ago, and combined.
  int64_t after_slot() const { return std::max<int64_t>(arrived() - slots_ + 1, 0); }

  /// In reduce_scatter it was sent from there too.
  int64_t sent_before_slot() const {
    if (!scatters()) return 0;
    return std::max<int64_t>(arrived() - slots_ + 1 + parts_.segments(), 0);
  }

  int left() const { return (rank_ + size_ - 1) % size_; }
  int64_t arrived() const { return static_cast<int64_t>(schedule_.receives.size()); }
  int64_t sent() const { return static_cast<int64_t>(schedule_.sends.size()); }

  const Operation& operation_;
  int rank_;
  int size_;
  int64_t width_;
  Parts parts_;
  std::vector<State> states_;
  int64_t slots_ = 0;
  Schedule schedule_;
};

}  // namespace

Schedule ring_schedule(const Operation& operation, int rank, int size,
                       const ScheduleTuning& tuning) {
  return RingReduction(operation, rank, size, tuning).build();
}

}  // namespace isobar
