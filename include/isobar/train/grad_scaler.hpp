// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/ddp/bucket_plan.hpp>
#include <isobar/train/state.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// PyTorch's rule and defaults (torch.amp.GradScaler). With powers of two, gradients are scaled
/// and scaled back without rounding.
struct GradScalerOptions {
  double initial = 65536;            ///< the first scale
  double growth = 2;                 ///< of the scale, after `growth_interval` good steps in a row
  double backoff = 0.5;              ///< of the scale, after a step whose gradients overflowed
  int64_t growth_interval = 2000;    ///< steps
  double minimum = 1.0 / (1 << 24);  ///< a scale below this means that no scale helps
};

/// Keeps the gradients of a network that computes in float16 within its range: the loss is
/// multiplied by a scale, its gradients are divided by it, and a step in which one of them is
/// not finite is left out and lowers the scale.
///
///     scaler.scale(loss).backward();
///     parallel.finish();
///     if (scaler.unscale(parameters, world)) optimizer.step(rate);
///
/// A step that is left out changes neither weights nor anything that the optimizer keeps.
class GradScaler final : public Stateful {
 public:
  /// Throws UsageError for options that are not positive, or a scale that does not grow.
  explicit GradScaler(const GradScalerOptions& options = {});

  /// The loss to differentiate.
  at::Tensor scale(const at::Tensor& loss) const;

  /// Divides the reduced gradients by the scale of this step, chooses that of the next, and
  /// says whether every gradient is finite on every rank of `world`; where not, gradients are
  /// left undefined. Collective; blocks. Throws Error on every rank where the scale would fall
  /// below the minimum.
  bool unscale(const std::vector<NamedParameter>& parameters, Communicator& world);

  double current() const noexcept { return scale_; }
  /// Steps left out so far.
  int64_t skipped() const noexcept { return skipped_; }

  std::string name() const override { return "grad_scaler"; }
  int version() const override { return 1; }
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  void update(bool finite);

  GradScalerOptions options_;
  double scale_;
  int64_t good_steps_ = 0;  ///< since the scale last changed
  int64_t skipped_ = 0;
};

}  // namespace isobar
