// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/census.hpp>
#include <isobar/train/step_profile.hpp>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>
#include <vector>

namespace isobar {

/// Shares the time of training steps out over their parts, without a gap: a lap gives what went by
/// since the one before to a part, but for what was spent in waits for collectives. Where the
/// census keeps spans, it also knows of the step under way when each of them was; vectors grow in
/// the first steps and are used again in the others.
class StepTimer {
 public:
  /// `census` must outlive this.
  explicit StepTimer(CollectiveCensus& census) : census_(census) { restart(); }

  void lap(StepPart part) {
    const double exposed_s = census_.exposed_s();
    const double waited_s = exposed_s - exposed_s_;
    exposed_s_ = exposed_s;
    const double from_s = since_begin(last_);
    const auto now = Clock::now();
    seconds(part) += std::chrono::duration<double>(now - last_).count() - waited_s;
    seconds(StepPart::exposed_comm) += waited_s;
    last_ = now;
    place(part, from_s);
  }

  /// What went by since the last lap belongs to no step, and the next one begins.
  void restart() {
    last_ = Clock::now();
    exposed_s_ = census_.exposed_s();
    census_.take_spans(waits_);
    begin_step();
  }

  /// The step ended with the last lap, and the next one began: exchanges what it was made of for
  /// the memory of an older one.
  void end_step(StepTimeline::Rank& step) {
    step_.step_s = since_begin(last_);
    std::swap(step_, step);
    begin_step();
  }

  /// Of all laps.
  const StepParts& total() const { return total_; }

 private:
  using Clock = std::chrono::steady_clock;

  double& seconds(StepPart part) { return total_[static_cast<int>(part)]; }
  double since_begin(Clock::time_point time) const {
    return std::chrono::duration<double>(time - begin_).count();
  }

  void begin_step() {
    begin_ = last_;
    step_.parts.clear();
    step_.buckets.clear();
  }

  /// A lap's time in the order in which it went by: the part, and the waits in the midst of it.
  void place(StepPart part, double from_s) {
    census_.take_spans(waits_);
    for (const auto& wait : waits_) {
      const double begin_s = std::max(from_s, since_begin(wait.wait_begin));
      const double end_s = std::max(begin_s, since_begin(wait.wait_end));
      add(part, from_s, begin_s);
      add(StepPart::exposed_comm, begin_s, end_s);
      from_s = end_s;
      if (wait.bucket >= 0) add_to_bucket(wait);
    }
    add(part, from_s, since_begin(last_));
  }

  /// Goes on with the last span where that was of the same part.
  void add(StepPart part, double begin_s, double end_s) {
    if (end_s <= begin_s) return;
    if (!step_.parts.empty() && step_.parts.back().part == part) {
      step_.parts.back().end_s = end_s;
    } else {
      step_.parts.push_back({part, begin_s, end_s});
    }
  }

  void add_to_bucket(const CollectiveSpan& wait) {
    auto& buckets = step_.buckets;
    const double begin_s = since_begin(wait.call), end_s = since_begin(wait.ended);
    auto found = std::find_if(buckets.begin(), buckets.end(),
                              [&](const auto& bucket) { return bucket.index == wait.bucket; });
    if (found == buckets.end()) {
      buckets.push_back({wait.bucket, 0, begin_s, end_s, 0});
      found = std::prev(buckets.end());
    }
    found->bytes += wait.bytes;
    found->begin_s = std::min(found->begin_s, begin_s);
    found->end_s = std::max(found->end_s, end_s);
    found->waited_s += std::chrono::duration<double>(wait.wait_end - wait.wait_begin).count();
  }

  CollectiveCensus& census_;
  Clock::time_point last_;
  double exposed_s_ = 0;
  StepParts total_{};
  // The step under way.
  Clock::time_point begin_;
  StepTimeline::Rank step_;
  std::vector<CollectiveSpan> waits_;  ///< of a lap
};

}  // namespace isobar
