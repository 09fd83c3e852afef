// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace isobar {

/// Whether the ranks share the samples of a step, or each takes all of them.
enum class SamplerPolicy { shared, replicated };

enum class SampleOrder { shuffled, in_order };

struct SamplerOptions {
  /// Samples a rank takes each step.
  int64_t batch = 1;
  int rank = 0;
  int size = 1;
  uint64_t seed = 0;
  SamplerPolicy policy = SamplerPolicy::shared;
  SampleOrder order = SampleOrder::shuffled;
};

/// Sample indices, batch by batch.
using Batches = std::vector<std::vector<int64_t>>;

/// The order of n samples in an epoch: a function of (n, seed, epoch) alone,
/// the same on every machine.
///
/// Fisher-Yates from the last element down, with splitmix64 (Steele, Lea and
/// Flood, OOPSLA 2014) started at mix(seed) + epoch · 0x9e3779b97f4a7c15, where mix
/// is its output function; a number below k is a draw modulo k, and draws in
/// the last incomplete multiple of k are thrown away.
std::vector<int64_t> shuffled_indices(int64_t n, uint64_t seed, uint64_t epoch);

/// Gives every rank its samples. Knows nothing of communication: all ranks
/// build the same order and take their part of it.
class Sampler {
 public:
  /// For `samples` samples, numbered from 0. Throws UsageError where one step
  /// of all ranks takes more samples than there are.
  Sampler(int64_t samples, SamplerOptions options);

  /// This rank's batches of a training epoch.
  ///
  /// With the policy `shared` step s takes the s-th batch · size samples of the
  /// epoch's order, and rank r the r-th part of these: 1 x 8, 2 x 4 and 4 x 2
  /// (ranks x batch) see the same eight samples at every step. With
  /// `replicated` every rank takes the s-th `batch` samples. The incomplete
  /// step at the end is left out; those samples come in other epochs.
  Batches batches(int64_t epoch) const;

  /// Steps of a training epoch, the same on all ranks.
  int64_t steps() const noexcept;

 private:
  int64_t samples_;
  SamplerOptions options_;
};

/// This rank's batches of one pass over all samples, in order, each sample on
/// exactly one rank (on every rank where replicated): for validation. Ranks may
/// have different numbers of batches, some none. `seed` and `order` play no
/// part.
Batches every_sample(int64_t samples, const SamplerOptions& options);

}  // namespace isobar
