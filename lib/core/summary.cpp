// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/summary.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>
#include <cmath>

namespace isobar {
namespace {

double log_choose(double n, double k) {
  return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
}

/// The largest k with P(Binomial(n, 1/2) < k) <= 0.025, at least 1.
std::size_t interval_rank(std::size_t n) {
  double below = 0;  // P(Binomial(n, 1/2) < k)
  std::size_t k = 0;
  while (k < n) {
    // Rounding must not cost a rank where the probability is 0.025 exactly.
    below += std::exp(log_choose(static_cast<double>(n), static_cast<double>(k)) -
                      static_cast<double>(n) * std::log(2.0));
    if (below > 0.025 + 1e-12) break;
    ++k;
  }
  return std::max<std::size_t>(k, 1);
}

}  // namespace

Summary summarize(std::vector<double> samples) {
  ISOBAR_CHECK(!samples.empty(), "summarize: no samples were given");
  for (const double sample : samples) {
    ISOBAR_CHECK(!std::isnan(sample), "summarize: one of ", samples.size(),
                 " samples is not a number");
  }
  std::sort(samples.begin(), samples.end());
  const std::size_t n = samples.size();
  const std::size_t k = interval_rank(n);
  return {.count = n,
          .minimum = samples.front(),
          .median = quantile(samples, 0.5),
          .p95 = quantile(samples, 0.95),
          .maximum = samples.back(),
          .interval_low = samples[k - 1],
          .interval_high = samples[n - k]};
}

double quantile(const std::vector<double>& ascending, double q) {
  ISOBAR_CHECK(!ascending.empty(), "quantile: no samples were given");
  ISOBAR_CHECK(q >= 0 && q <= 1, "quantile: q must lie in [0, 1], got ", q);
  const double position = static_cast<double>(ascending.size() - 1) * q;
  const auto low = static_cast<std::size_t>(position);
  const std::size_t high = std::min(low + 1, ascending.size() - 1);
  const double fraction = position - static_cast<double>(low);
  return fraction == 0 ? ascending[low]
                       : ascending[low] + fraction * (ascending[high] - ascending[low]);
}

}  // namespace isobar
