// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar::bench {

/// What a way to bring gradients together has done since it was made, on this rank.
struct SyncTotals {
  int64_t payload_bytes = 0;  ///< gradient values handed to collectives
  double exposed_s = 0;       ///< waiting for collectives after the last gradient
  /// What left the rank; negative: an allreduce's lower bound for the payload.
  int64_t sent_bytes = -1;
};

/// What a gradient may be off by because less than the gradients is sent: a part of the
/// largest value of its tensor, and an amount for values too small to send.
struct SyncLoss {
  double of_largest = 0;
  double absolute = 0;
};

/// Gradients that one collective brings together, as places in the order of the
/// module's trainable parameters.
using SyncBucket = std::vector<int64_t>;

/// How the ranks bring the gradients of a step together.
class StepSync {
 public:
  virtual ~StepSync() = default;

  /// What the row's field `sync` says.
  virtual std::string name() const = 0;

  /// Whether every rank has the mean of all ranks' gradients after finish().
  virtual bool averages() const { return true; }

  virtual SyncLoss loss() const { return {}; }

  /// What this rank has left unsent of each parameter's gradients so far, one-dimensional
  /// and in the order of the module's trainable parameters; empty where it keeps no account.
  virtual std::vector<at::Tensor> residuals() const { return {}; }

  virtual void zero_grad() = 0;

  /// Comes before a forward pass, and between forward and backward.
  virtual void before_forward() {}
  virtual void before_backward() {}

  /// Comes right after the backward pass; returns once the gradients are final.
  virtual void finish() {}

  virtual SyncTotals totals() const = 0;

  /// In the order in which they are launched; final after the second step.
  virtual std::vector<SyncBucket> buckets() const = 0;
};

/// Every rank for itself: gradients are dropped before a step, as PyTorch does
/// by default, and nothing is communicated.
std::unique_ptr<StepSync> make_no_sync(torch::nn::Module& module);

}  // namespace isobar::bench
