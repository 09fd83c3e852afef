// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace isobar {

/// Random numbers that are the same on every machine, which the standard library's distributions
/// are not. The generator is splitmix64.
class RandomDraws {
 public:
  explicit RandomDraws(std::uint64_t seed);

  /// Above 0 and below 1.
  double uniform();

  /// Of mean 0 and deviation 1.
  double normal();

  /// Student's t of so many degrees of freedom, one or more.
  double student_t(int freedom);

  /// The largest of `count` normal ones, without drawing them: its distribution is Phi^count.
  double largest_normal(double count);

 private:
  std::uint64_t state_;
};

/// Where a standard normal number is above with the probability `tail`, which is above 0 and below
/// 1. By Newton's steps on the logarithm of the tail, to rounding.
double normal_quantile(double tail);

}  // namespace isobar
