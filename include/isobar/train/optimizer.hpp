// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/bucket_plan.hpp>
#include <isobar/train/state.hpp>

#include <memory>
#include <string>
#include <vector>

namespace isobar {

struct OptimizerOptions {
  /// "adamw" (Loshchilov and Hutter 2019, decoupled weight decay) or "sgd".
  std::string method = "adamw";
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

/// Updates parameters from their gradients, and keeps its state by parameter
/// name.
class Optimizer final : public Stateful {
 public:
  /// Throws UsageError for an unknown method.
  Optimizer(const std::vector<NamedParameter>& parameters, const OptimizerOptions& options);
  ~Optimizer() override;

  /// One update. A parameter without a gradient is left alone.
  void step(double learning_rate);

  std::string name() const override { return "optimizer"; }
  int version() const override { return 1; }
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
