// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/sampler.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace isobar {
namespace {

/// A number below `bound`, each as likely as another.
uint64_t draw_below(uint64_t bound, uint64_t& state) {
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  const uint64_t limit = most - most % bound;
  uint64_t number = most;
  while (number >= limit) number = splitmix64(state += kSplitmix64Step);
  return number % bound;
}

void check_sampler_options(const SamplerOptions& options) {
  ISOBAR_CHECK(options.batch > 0, "Sampler: batch has to be positive, got ", options.batch);
  ISOBAR_CHECK(options.size > 0 && options.rank >= 0 && options.rank < options.size,
               "Sampler: rank ", options.rank, " of ", options.size);
}

/// Ranks that take different samples of a step, and which of them this one is.
std::pair<int64_t, int64_t> sharers(const SamplerOptions& options) {
  if (options.policy == SamplerPolicy::replicated) return {1, 0};
  return {options.size, options.rank};
}

}  // namespace

std::vector<int64_t> shuffled_indices(int64_t n, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  // Seeds are often small and neighbours: mixed, they start streams far apart.
  uint64_t state = splitmix64(splitmix64(seed) + epoch * kSplitmix64Step);
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[i], order[draw_below(static_cast<uint64_t>(i) + 1, state)]);
  }
  return order;
}

Sampler::Sampler(int64_t samples, SamplerOptions options) : samples_(samples), options_(options) {
  check_sampler_options(options_);
  const auto [parts, part] = sharers(options_);
  ISOBAR_CHECK(options_.batch <= samples / parts, "Sampler: a step takes ", parts * options_.batch,
               " samples (", parts, parts == 1 ? " rank x " : " ranks x ", options_.batch,
               "), but there are only ", samples);
}

int64_t Sampler::steps() const noexcept {
  return samples_ / (options_.batch * sharers(options_).first);
}

Batches Sampler::batches(int64_t epoch) const {
  std::vector<int64_t> order(static_cast<std::size_t>(samples_));
  std::iota(order.begin(), order.end(), 0);
  if (options_.order == SampleOrder::shuffled) {
    order = shuffled_indices(samples_, options_.seed, static_cast<uint64_t>(epoch));
  }
  const auto [parts, part] = sharers(options_);
  Batches batches;
  for (int64_t step = 0; step < steps(); ++step) {
    const auto first = order.begin() + (step * parts + part) * options_.batch;
    batches.emplace_back(first, first + options_.batch);
  }
  return batches;
}

Batches every_sample(int64_t samples, const SamplerOptions& options) {
  check_sampler_options(options);
  const auto [parts, part] = sharers(options);
  const int64_t begin = samples * part / parts;
  const int64_t end = samples * (part + 1) / parts;
  Batches batches;
  for (int64_t first = begin; first < end; first += options.batch) {
    std::vector<int64_t> batch(static_cast<std::size_t>(std::min(options.batch, end - first)));
    std::iota(batch.begin(), batch.end(), first);
    batches.push_back(std::move(batch));
  }
  return batches;
}

}  // namespace isobar
