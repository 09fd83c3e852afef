// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/measure_step.hpp>
#include <isobar/bench/parallel_step.hpp>
#include <isobar/bench/subject.hpp>
#include <isobar/compress/break_even.hpp>
#include <isobar/compress/make_compressor.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace isobar::bench {

/// A way to compress, and what steps with it took.
struct MeasuredCompression {
  CompressionOptions options;
  std::vector<double> measured_s;  ///< by round
  double error = 0;
};

/// A step in parts, each measured by itself; the slowest rank's times.
struct MeasuredParts {
  StepCompute compute;          ///< without communication; its buckets do not count
  std::vector<double> ready_s;  ///< by bucket, since the backward pass began
  AllreduceCost wire;
};

/// Predicts a step for each way to compress from what all ranks see of it: the step without
/// communication, its buckets, the compressors and the wire; and measures whole steps to check it.
/// Rank 0 shows progress.
class CompressionBench {
 public:
  /// The arguments and `comm` must outlive it. Collective; blocks. Throws UsageError on every rank
  /// for arguments that no workload can be made of.
  CompressionBench(const StepArguments& common, const ParallelArguments& parallel,
                   Communicator& comm);
  ~CompressionBench();
  CompressionBench(const CompressionBench&) = delete;
  CompressionBench& operator=(const CompressionBench&) = delete;

  Subject& ranks();

  /// By choice, the same on every rank. Collective; blocks.
  std::vector<CompressionChoice> predict(const std::vector<MeasuredCompression>& choices);

  /// What the latest predict() was made of.
  const MeasuredParts& parts() const;

  /// What a rank moves in a second by McCalpin's STREAM triad, while all of them do. Collective;
  /// blocks.
  double memory_bytes_per_s();

  /// `rounds` of all choices, in turn. Collective; blocks.
  void measure(std::vector<MeasuredCompression>& choices, int rounds);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar::bench
