// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <isobar/data/samples.hpp>
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

namespace torch::nn {
class Module;
}

namespace isobar {

/// What a Trainer trains: a module, and what to do with it. The trainer never
/// calls forward and knows nothing of the model inside.
///
/// Batches arrive on the module's device.
struct Task {
  /// Owns the parameters.
  std::shared_ptr<torch::nn::Module> module;

  /// What each parameter's gradient means in a model-parallel group, by name;
  /// empty means Reduction::replicated for all.
  std::function<Reduction(const std::string& name)> reduction = nullptr;

  /// The mean loss over the batch's samples, a scalar that can be
  /// differentiated.
  std::function<at::Tensor(const Batch& batch)> loss;

  /// The forecast for the batch's target hours, [B, S, N, P], normalised as the
  /// batch is. Called without gradients.
  std::function<at::Tensor(const Batch& batch)> forecast;
};

/// A batch whose tensors lie on `device`.
Batch to_device(const Batch& batch, at::Device device);

}  // namespace isobar
