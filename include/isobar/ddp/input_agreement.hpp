// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>

#include <cstdint>
#include <memory>

namespace isobar {

/// What all ranks together have for a step.
struct StepInputs {
  /// Over all replicas; the ranks of a model count once. 0: the epoch is over,
  /// for every rank at the same step.
  int64_t total_samples = 0;
  /// This rank's samples · replicas / total_samples: what it multiplies its mean
  /// loss by, so that the reduced gradient is the exact mean over all samples of
  /// the step. 0 on a rank that has run out.
  double weight = 0;

  /// True where any rank has samples, and so every rank has a step to take.
  bool any() const noexcept { return total_samples > 0; }
};

/// Lets ranks whose data differ in length stop at the same step, with every sample
/// counted once.
///
/// A rank that has run out goes on taking part, so that every collective of the
/// forward pass and of the reducer is met: it runs a placeholder, such as its last
/// batch, with weight 0. Its loss must be a finite number.
///
///     isobar::InputAgreement inputs(grid);
///     inputs.start(samples_of(batch));
///     while (true) {
///       const auto step = inputs.finish();
///       if (!step.any()) break;
///       const auto loss = step.weight * mean_loss(batch);
///       batch = next_batch_or_the_same();
///       inputs.start(...);                 // under way during the backward pass
///       loss.backward();
///       parallel.finish();
///     }
///
/// Collective over the world, in the order of its other collectives. What travels
/// is eight bytes a rank, on the CPU: no device is waited for.
class InputAgreement {
 public:
  /// With one rank a model.
  explicit InputAgreement(Communicator& world);
  /// Must not outlive the grid.
  explicit InputAgreement(const ProcessGrid& grid);
  ~InputAgreement();

  /// Tells the others how many samples this rank has for the next step. Never
  /// blocks. Throws UsageError where the last start() has not been finished.
  void start(int64_t local_samples);

  /// What was agreed on. Blocks until every rank has started. Throws the same
  /// UsageError on every rank, naming one, where a number is negative or the ranks
  /// of a model have different numbers: they share the samples of a step.
  StepInputs finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
