// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/sample_use.hpp>

#include <algorithm>

namespace isobar {
namespace {

/// The number of k with origin + k · distance < end.
int64_t steps_before(int64_t end, int64_t origin, int64_t distance) {
  const int64_t apart = end - origin;
  return apart / distance + (apart % distance > 0 ? 1 : 0);
}

}  // namespace

SampleUse sample_use(const SampleSet& samples, const Period& period) {
  const auto& times = samples.dataset().times();
  const int64_t distance = samples.dataset().usual_step();
  if (distance == 0) return {samples.size(), samples.size()};
  const auto& targets = samples.period_hours();
  const auto [first, last] = std::minmax_element(targets.begin(), targets.end());
  const int64_t begin = period.begin - *first * kHourSeconds;
  const int64_t end = period.end - *last * kHourSeconds;
  const int64_t whole =
      steps_before(end, times.front(), distance) - steps_before(begin, times.front(), distance);
  return {samples.size(), std::max(whole, samples.size())};
}

}  // namespace isobar
