// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/reducer.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

enum class UpdateRule {
  adamw,  ///< Loshchilov and Hutter 2019, as torch::optim::AdamW
  sgd     ///< with momentum, as torch::optim::SGD without dampening
};

struct FlatOptimizerOptions {
  UpdateRule rule = UpdateRule::adamw;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double momentum = 0;  ///< of sgd
  /// adamw: decoupled from the gradient; sgd: added to it.
  double weight_decay = 0.01;
};

/// What the optimizer remembers of one parameter. Tensors have its shape.
struct ParameterState {
  std::string parameter;
  int64_t step = 0;  ///< updates so far, from 1; sgd does not depend on their number
  /// adamw: "exp_avg" and "exp_avg_sq"; sgd: "momentum_buffer", or nothing.
  std::vector<std::pair<std::string, at::Tensor>> moments;
};

/// Updates a reducer's parameters, a bucket at a time: one pass over memory instead
/// of several a parameter, and while later buckets are still being reduced.
///
/// Parameters and moments of a bucket lie in flat buffers laid out as its gradients
/// are. Parameters are rebound there (`set_data`): tensors, hooks, names and shapes
/// stay, while a tensor that shared a parameter's memory before no longer does: where that is
/// another parameter or buffer of the module, the optimizer refuses, here or in the update that
/// would move it. When
/// the reducer plans its buckets again, the next update moves everything, as where somebody
/// has given a parameter other memory since (`set_data`), whose values are then taken in.
/// A parameter that is frozen (requires_grad false) and has no gradient is not updated, nor are
/// its moments.
///
///     isobar::FlatOptimizer optimizer(parallel.reducer());
///     loss.backward();
///     parallel.finish(optimizer.on_bucket(rate));      // updates as gradients come
///
///     parallel.finish();                               // or, with clipping
///     clip_by_norm(...);
///     optimizer.step(rate);
///
/// sgd gives LibTorch's bits in float32 and float64, adamw those within a few units in
/// the last place. Moments have the parameter's type; 16-bit floats are computed in
/// float32, each result rounded once. Every parameter of the reducer has a gradient, zero
/// where no rank used it, and so is decayed and updated. Communicates with nobody.
class FlatOptimizer {
 public:
  /// Why these parameters cannot be updated in flat buffers, naming one; empty where
  /// they can: floating-point, dense, on a CPU or a CUDA device, none in another's memory.
  static std::string obstacle(const std::vector<NamedParameter>& parameters);

  /// Throws UsageError where there is an obstacle. Without its reducer, or once the module was
  /// wrapped again, only state() works: the rest throws UsageError.
  explicit FlatOptimizer(Reducer& reducer, const FlatOptimizerOptions& options = {});
  ~FlatOptimizer();
  FlatOptimizer(const FlatOptimizer&) = delete;
  FlatOptimizer& operator=(const FlatOptimizer&) = delete;

  /// For one finish() of the reducer or of its DataParallel: updates each bucket's
  /// parameters once its gradients are reduced. Instead of step(), not beside it. Throws
  /// UsageError in another reducer's finish().
  BucketCallback on_bucket(double learning_rate);

  /// Updates all parameters, after finish(), by their `.grad`. Throws UsageError before it.
  void step(double learning_rate);

  /// In the order of the reducer's parameters; those never updated are left out. The
  /// tensors share the optimizer's memory.
  std::vector<ParameterState> state() const;

  /// Copies states in, by name; parameters without one begin anew, names that are not
  /// known are passed over. Throws DataError, having changed nothing, where a moment
  /// is missing or has another shape than its parameter.
  void load(const std::vector<ParameterState>& states);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace isobar
