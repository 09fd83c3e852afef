// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/train/sharded_rows.hpp>
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
/// Batches arrive on the module's device. Where a model-parallel group of several ranks shares a
/// model, each rank's batches hold the same samples at the points that it owns (see
/// SampleOptions::rows); loss and forecast may then communicate over the group, whose ranks
/// all call them in the same order.
struct Task {
  /// Owns the parameters.
  std::shared_ptr<torch::nn::Module> module;

  /// What each parameter's gradient means in a model-parallel group, by name;
  /// empty means Reduction::replicated for all.
  std::function<Reduction(const std::string& name)> reduction = nullptr;

  /// Which rows this rank owns of a parameter that is Reduction::sharded; empty
  /// means that none is.
  RowsOf rows = nullptr;

  /// This rank's share of the mean loss over the batch's samples, a scalar that can be
  /// differentiated: the shares of a model-parallel group sum to the loss. With one rank
  /// a model it is the loss. A batch with fewer target hours than its samples have asks for
  /// the loss of a forecast so far.
  std::function<at::Tensor(const Batch& batch)> loss;

  /// The forecast for the batch's target hours, [B, S, N, P], normalised as the
  /// batch is. Called without gradients.
  std::function<at::Tensor(const Batch& batch)> forecast;
};

/// A batch whose tensors lie on `device`. From pinned() tensors the copies go on beside the
/// caller; what computes with the result comes after them.
Batch to_device(const Batch& batch, at::Device device);

/// The same batch, where `device` is no CPU in memory that it copies from by itself.
Batch pinned(const Batch& batch, at::Device device);

}  // namespace isobar
