// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

namespace isobar {

/// What is reported of repeated measurements.
struct Summary {
  std::size_t count = 0;
  double minimum = 0;
  double median = 0;
  double p95 = 0;
  double maximum = 0;
  /// Ends of a 95 % confidence interval of the median.
  double interval_low = 0;
  double interval_high = 0;
};

/// Summarises `samples`, in any order. Throws UsageError where there is none or
/// one is not a number.
///
/// With x(1) <= ... <= x(n) the sorted samples:
/// - median and p95 are quantile(samples, 0.5) and quantile(samples, 0.95);
/// - the interval is [x(k), x(n + 1 - k)] with the largest k for which
///   P(Binomial(n, 1/2) < k) <= 0.025. It assumes independent samples and no
///   shape of their distribution. Five samples or fewer cannot reach 95 %: the
///   interval is then [x(1), x(n)], and covers 1 - 2^(1 - n).
Summary summarize(std::vector<double> samples);

/// The quantile `q` in [0, 1] of ascending samples x(1) ... x(n), interpolated
/// linearly at position 1 + (n - 1) q (Hyndman and Fan 1996, definition 7).
double quantile(const std::vector<double>& ascending, double q);

}  // namespace isobar
