// SPDX-License-Identifier: Apache-2.0
// Under measure_allreduce(), apart from it so that a test can give it the times of a busy machine.
// Every rank gives it the same times, so that all ask for the same sizes.
#include "compress/allreduce_times.hpp"

#include <vector>

namespace isobar {
namespace {

constexpr int64_t kLargest = 64 << 20;

AllreduceCost not_too_good(const AllreduceSample& smallest, const AllreduceSample& largest,
                           int ranks) {
  const double sent = allreduce_sent_fraction(ranks) * static_cast<double>(largest.bytes);
  return {.latency_s = smallest.seconds, .bytes_per_s = sent / largest.seconds};
}

}  // namespace

AllreduceCost cost_of_allreduces(const std::function<double(int64_t bytes)>& seconds_of,
                                 int ranks) {
  std::vector<AllreduceSample> samples;
  const auto sample = [&](int64_t bytes) { samples.push_back({bytes, seconds_of(bytes)}); };
  for (const int64_t bytes : {4 << 10, 64 << 10, 512 << 10, 4 << 20}) sample(bytes);
  auto cost = fit_allreduce_cost(samples, ranks);
  while (!cost && samples.back().bytes < kLargest) {
    sample(4 * samples.back().bytes);
    cost = fit_allreduce_cost(samples, ranks);
  }
  return cost.value_or(not_too_good(samples.front(), samples.back(), ranks));
}

}  // namespace isobar
