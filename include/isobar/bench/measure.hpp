// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/subject.hpp>
#include <isobar/core/summary.hpp>

#include <cstdint>
#include <vector>

namespace isobar::bench {

struct MeasureOptions {
  Collective op = Collective::allreduce;
  at::ScalarType type = at::kFloat;
  at::Device device = at::kCPU;
  /// Collectives issued together before the first is waited for.
  int in_flight = 1;
  int warmup = 2;
  /// 0 lets rank 0 choose: as many as take about a second, 10 at least.
  int repeats = 0;
};

struct Measurement {
  /// Size in the sense of counts_of(), after rounding to equal parts.
  int64_t bytes = 0;
  /// Seconds a collective, of each repeat the slowest rank's.
  Summary seconds;
  /// Median time until a collective had been issued, on the slowest rank.
  double start_s = 0;
  /// CPU time over wall time while collectives ran, on the rank with the most: the
  /// threads other than the calling one, and the whole process.
  double comm_thread_cpu = 0;
  double process_cpu = 0;
  /// Softirq time of the whole machine over wall time, pauses between repeats
  /// included; the largest of the nodes.
  double softirq_cpu = 0;
  /// Largest deviation from the plain reference on any rank, before the timing
  /// and after it.
  double error = 0;
};

/// Checks the result, warms up, times repeats that begin at a barrier, and checks
/// once more with other values. Collective; blocks.
Measurement measure(Subject& subject, const MeasureOptions& options, int64_t bytes);

/// Repeats that take about a second in all, from 10 to 1000.
int choose_repeats(double seconds_each);

/// The largest of the ranks' values, place by place. Collective; blocks.
std::vector<double> largest_over_ranks(Subject& subject, const std::vector<double>& values);

/// Algorithm bandwidth, and bus bandwidth as busbw_factor() has it.
double algbw_gbit_s(int64_t bytes, double seconds);

}  // namespace isobar::bench
