// SPDX-License-Identifier: Apache-2.0
// All ranks do the same, so that one program is written for each with its own neighbours. Labels
// count up within a rank. A stage of a bucket needs what it computes, which needs the bucket to be
// full and what was computed before it; and the ring, which is free when the stage before has come
// to its end.
#include <isobar/projection/goal_trace.hpp>

#include <isobar/core/error.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace isobar {
namespace {

constexpr std::int64_t kMostLines = 10'000'000;
constexpr double kNanoseconds = 1e9;

class RankTrace {
 public:
  RankTrace(std::ostream& out, int rank, int ranks) : out_(out), rank_(rank), ranks_(ranks) {}

  void write(const ProjectionInput& input) {
    out_ << "rank " << rank_ << " {\n";
    compute(input.compute.forward_s);
    double passed_s = 0;
    for (const auto& bucket : input.buckets) {
      compute(std::max(0.0, bucket.ready_s - passed_s));
      passed_s = std::max(passed_s, bucket.ready_s);
      stage(bucket, 0);
    }
    compute(std::max(0.0, input.compute.backward_s - passed_s));
    for (std::size_t s = 1; s < stages(input); ++s) {
      for (std::size_t b = 0; b < input.buckets.size(); ++b) {
        need_bucket(b);
        stage(input.buckets[b], s);
      }
    }
    for (std::size_t b = 0; b < input.buckets.size(); ++b) {
      need_bucket(b);
      compute(input.buckets[b].complete_s);
    }
    compute(input.compute.optimizer_s);
    out_ << "}\n";
  }

 private:
  static std::size_t stages(const ProjectionInput& input) {
    return input.buckets.empty() ? 0 : input.buckets.front().stages.size();
  }

  /// Computes after all that was computed, and after the collective of need_bucket().
  void compute(double seconds) {
    const auto label = next();
    out_ << fmt::format("l{}: calc {} cpu 0\n", label,
                        static_cast<std::int64_t>(std::llround(seconds * kNanoseconds)));
    requires_(label, computed_);
    requires_(label, needed_);
    computed_ = label;
    needed_ = 0;
  }

  void need_bucket(std::size_t bucket) { needed_ = ends_[bucket]; }

  void stage(const StagedBucket& bucket, std::size_t stage) {
    compute(bucket.stages[stage].compute_s);
    const auto tag = collectives_++;
    const std::int64_t bytes = (bucket.stages[stage].bytes + ranks_ - 1) / ranks_;
    std::int64_t received = ring_;
    for (int m = 0; m < 2 * (ranks_ - 1); ++m) {
      const auto send = next();
      out_ << fmt::format("l{}: send {}b to {} tag {} cpu 1\n", send, bytes, (rank_ + 1) % ranks_,
                          tag);
      requires_(send, m == 0 ? computed_ : 0);
      requires_(send, received);
      const auto receive = next();
      out_ << fmt::format("l{}: recv {}b from {} tag {} cpu 1\n", receive, bytes,
                          (rank_ + ranks_ - 1) % ranks_, tag);
      requires_(receive, m == 0 ? ring_ : received);
      received = receive;
    }
    ring_ = received;
    if (stage == 0) {
      ends_.push_back(ring_);
    } else {
      ends_[finished_++ % ends_.size()] = ring_;
    }
  }

  void requires_(std::int64_t label, std::int64_t other) {
    if (other != 0) out_ << fmt::format("l{} requires l{}\n", label, other);
  }

  std::int64_t next() { return ++labels_; }

  std::ostream& out_;
  int rank_, ranks_;
  std::int64_t labels_ = 0, computed_ = 0, needed_ = 0, ring_ = 0, collectives_ = 0;
  std::vector<std::int64_t> ends_;  ///< by bucket, of its latest collective
  std::size_t finished_ = 0;        ///< later stages
};

}  // namespace

void write_goal_trace(std::ostream& out, const ProjectionInput& input, int nodes) {
  const int ranks = nodes * input.node_ranks;
  ISOBAR_CHECK(nodes > 0 && ranks > 1, "write_goal_trace: wanted two ranks or more, got ", ranks);
  std::int64_t collectives = 0;
  for (const auto& bucket : input.buckets) {
    collectives += static_cast<std::int64_t>(bucket.stages.size());
  }
  const std::int64_t lines = 6 * collectives * (ranks - 1) * ranks;
  ISOBAR_CHECK(lines <= kMostLines, "write_goal_trace: ", collectives, " collectives of ", ranks,
               " ranks make about ", lines, " lines, more than ", kMostLines,
               "; take fewer nodes or larger buckets");
  out << "num_ranks " << ranks << "\n";
  for (int rank = 0; rank < ranks; ++rank) RankTrace(out, rank, ranks).write(input);
  if (!out) throw Error("write_goal_trace: the trace could not be written");
}

}  // namespace isobar
