// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/state.hpp>

#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// Whether parameters are updated in flat buffers, a bucket at a time: see
/// FlatOptimizer.
enum class FusedUpdate {
  automatic,  ///< where the parameters allow it
  on,         ///< and it is an error where they do not
  off
};

struct OptimizerOptions {
  /// "adamw" (Loshchilov and Hutter 2019, decoupled weight decay) or "sgd".
  std::string method = "adamw";
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double momentum = 0;  ///< of sgd
  double weight_decay = 0.01;
  FusedUpdate fused = FusedUpdate::automatic;
};

/// Updates parameters from their gradients, and keeps its state by parameter name.
///
/// Fused or not, the state that it saves is the same. An unfused update is LibTorch's;
/// a fused one equals it, to the bit for sgd and within rounding for adamw.
class Optimizer final : public Stateful {
 public:
  /// Not fused, whatever the options say. Throws UsageError for an unknown method.
  Optimizer(const std::vector<NamedParameter>& parameters, const OptimizerOptions& options);

  /// For the reducer's parameters, fused as the options say. Throws UsageError for an
  /// unknown method, and where fusing is asked for and not possible. The reducer must
  /// outlive this.
  Optimizer(Reducer& reducer, const OptimizerOptions& options);
  ~Optimizer() override;

  bool fused() const noexcept;

  /// One update. A parameter without a gradient is left alone.
  void step(double learning_rate);

  /// The update of one bucket once it is reduced, for DataParallel::finish(); empty where this is
  /// not fused. All of them together are one update.
  BucketCallback on_bucket(double learning_rate);

  /// parallel.finish() and one update; a fused one goes on while later buckets are
  /// still being reduced. Collective; blocks. For `parallel` of the same reducer.
  void finish(DataParallel& parallel, double learning_rate);

  std::string name() const override { return "optimizer"; }
  int version() const override { return 1; }
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
