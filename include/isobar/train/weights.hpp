// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/state.hpp>

#include <memory>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar {

/// A module's parameters as a part of a checkpoint, by name. Buffers are not
/// kept: they are made from the experiment.
class ModuleWeights final : public Stateful {
 public:
  /// `part` names the part in the checkpoint: "model", or "average" to put the
  /// averaged weights of a run into a module.
  ModuleWeights(std::shared_ptr<torch::nn::Module> module, std::string part = "model");

  std::string name() const override { return part_; }
  int version() const override { return 1; }
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  std::shared_ptr<torch::nn::Module> module_;
  std::string part_;
};

/// An exponential moving average of a module's parameters: after each update
/// a ← d·a + (1 - d)·w, with d = min(decay, (1 + n) / (10 + n)) at the n-th update, so
/// that early weights are forgotten quickly.
class WeightAverage final : public Stateful {
 public:
  WeightAverage(std::shared_ptr<torch::nn::Module> module, double decay);

  void update();

  /// Exchanges the module's parameters and the averages; the same call again
  /// puts them back.
  void swap();

  std::string name() const override { return "average"; }
  int version() const override { return 1; }
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  std::shared_ptr<torch::nn::Module> module_;
  double decay_;
  int64_t updates_ = 0;
  std::vector<at::Tensor> averages_;
};

}  // namespace isobar
