// SPDX-License-Identifier: Apache-2.0
// What repeated runs say, with the interval in which it holds. Every function gives the same result
// for the same samples and seed, on every machine.
//
// Intervals are of 95 %, by the percentile bootstrap with 10,000 resamples (Efron and Tibshirani,
// An Introduction to the Bootstrap, 1993, section 13.3): the middle 95 % of what resampled samples
// give. They suppose independent runs. Few runs cannot give that much: of n, the interval is at
// most from the least to the largest, which holds the median with 1 - 2^(1 - n) (three: 75 %).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace isobar {

/// The median of samples, with its interval.
struct Estimate {
  double median = 0;
  double low = 0;
  double high = 0;
  std::size_t count = 0;
  /// Places of samples that lie far from the others. They count like all: for people to look at.
  ///
  /// Far is more than 3.5 robust standard deviations from the median (Iglewicz and Hoaglin, How to
  /// Detect and Handle Outliers, 1993, section 3.3): 1.4826 times the median absolute deviation or,
  /// where that is 0, 1.2533 times the mean absolute deviation.
  std::vector<std::size_t> outliers = {};
};

/// Throws UsageError where there is no sample or one is not finite.
Estimate estimate(const std::vector<double>& samples, std::uint64_t seed = 0);

/// A quotient, with its interval.
struct Ratio {
  double value = 1;
  double low = 1;
  double high = 1;
};

/// median(a) / median(b) of samples that were taken independently: both are resampled. Throws
/// UsageError where there is no sample or one is not finite and above 0, as the next three do.
Ratio ratio_of_medians(const std::vector<double>& a, const std::vector<double>& b,
                       std::uint64_t seed = 0);

/// The median of a[i] / b[i], of samples taken in pairs, as two runs right after each other, which
/// share the state of the machine: pairs are resampled. Throws for unequal counts, too.
Ratio paired_ratio(const std::vector<double>& a, const std::vector<double>& b,
                   std::uint64_t seed = 0);

/// Weak scaling, where N nodes have N times the work: E = T1 / TN (Gustafson, CACM 31(5), 1988).
Ratio weak_efficiency(const std::vector<double>& t1, const std::vector<double>& tn,
                      std::uint64_t seed = 0);

/// Strong scaling, where all have the same work: E = (T1 · n1) / (TN · n), of n1 and n nodes
/// (Amdahl, AFIPS 1967; n1 is 1 where one node can hold the work).
Ratio strong_efficiency(const std::vector<double>& t1, int n1, const std::vector<double>& tn, int n,
                        std::uint64_t seed = 0);

/// The quotient of two medians of which only the 95 % intervals are known, independent of each
/// other: the distances to their ends, of logarithms, add up as squares (Zou and Donner, Statistics
/// in Medicine 27, 2008, "MOVER"). Throws UsageError where a value is not finite and above 0.
Ratio ratio_of_intervals(const Ratio& a, const Ratio& b);

}  // namespace isobar
