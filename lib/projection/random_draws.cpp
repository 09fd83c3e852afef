// SPDX-License-Identifier: Apache-2.0
#include "projection/random_draws.hpp"

#include <isobar/core/hash.hpp>

#include <cmath>
#include <numbers>

namespace isobar {

RandomDraws::RandomDraws(std::uint64_t seed) : state_(splitmix64(seed + kSplitmix64Step)) {}

double RandomDraws::uniform() {
  state_ += kSplitmix64Step;
  return (static_cast<double>(splitmix64(state_) >> 11) + 0.5) / 9007199254740992.0;
}

double RandomDraws::normal() { return normal_quantile(uniform()); }

double RandomDraws::student_t(int freedom) {
  const double number = normal();
  double squares = 0;
  for (int i = 0; i < freedom; ++i) {
    const double one = normal();
    squares += one * one;
  }
  return number / std::sqrt(squares / freedom);
}

// P(largest <= x) = Phi(x)^count, so that its quantile at u is that of Phi at u^(1/count). What is
// left above it is tiny for many ranks, and kept as such: 1 - u^(1/count) would lose its digits.
double RandomDraws::largest_normal(double count) {
  return normal_quantile(-std::expm1(std::log(uniform()) / count));
}

// Newton's steps on the logarithm of the tail, which is concave and falls: from a place beyond the
// wanted one they come nearer from there. P(x) < exp(-x^2 / 2) gives such a place.
double normal_quantile(double tail) {
  if (tail > 0.5) return -normal_quantile(1 - tail);
  const double wanted = std::log(tail);
  double x = std::sqrt(-2 * wanted);
  for (int step = 0; step < 60; ++step) {
    const double above = 0.5 * std::erfc(x / std::numbers::sqrt2);
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double change = (std::log(above) - wanted) * above / density;
    x += change;
    if (std::abs(change) < 1e-13 * (1 + std::abs(x))) break;
  }
  return x;
}

}  // namespace isobar
