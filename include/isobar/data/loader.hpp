// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/sampler.hpp>
#include <isobar/data/samples.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace isobar {

struct LoaderOptions {
  /// Batches kept ready. Positive.
  int64_t prefetch = 2;
};

/// Makes a batch of sample indices. Called from the loader's thread.
using BatchSource = std::function<Batch(const std::vector<int64_t>&)>;

/// Prepares batches ahead, in order, on a thread of its own.
///
/// Used by one thread. Batches lie on the CPU; moving them to a device is the
/// caller's affair. The destructor stops after the batch in preparation and
/// may be called at any moment.
class Loader {
 public:
  Loader(std::shared_ptr<const SampleSet> samples, Batches batches, LoaderOptions options = {});
  Loader(BatchSource source, Batches batches, LoaderOptions options = {});
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch, or nothing after the last. Blocks until it is ready.
  /// What its preparation threw is thrown here, after the batches before it,
  /// and again at every later call.
  std::optional<Batch> next();

  /// Seconds that next() has waited for data so far.
  double stalled() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
