// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/weights.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <algorithm>

namespace isobar {
namespace {

/// The saved tensors in the order of the module's parameters; DataError unless
/// names and shapes fit.
std::vector<at::Tensor> matching(const torch::nn::Module& module, const StateDict& state,
                                 const std::string& part) {
  std::vector<at::Tensor> result;
  for (const auto& item : module.named_parameters()) {
    const auto saved = state.tensor(item.key());
    if (saved.sizes() != item.value().sizes()) {
      throw DataError(detail::join("checkpoint part '", part, "': '", item.key(), "' has shape ",
                                   saved.sizes(), ", the model wants ", item.value().sizes()));
    }
    result.push_back(saved);
  }
  if (result.size() != state.tensors().size()) {
    throw DataError(detail::join("checkpoint part '", part, "' holds ", state.tensors().size(),
                                 " tensors, the model has ", result.size(), " parameters"));
  }
  return result;
}

}  // namespace

ModuleWeights::ModuleWeights(std::shared_ptr<torch::nn::Module> module, std::string part)
    : module_(std::move(module)), part_(std::move(part)) {}

void ModuleWeights::save(StateDict& state) const {
  for (const auto& item : module_->named_parameters()) {
    state.put(item.key(), item.value().detach());
  }
}

void ModuleWeights::load(const StateDict& state, int) {
  c10::NoGradGuard no_grad;
  const auto saved = matching(*module_, state, part_);
  auto parameters = module_->parameters();
  for (size_t i = 0; i < saved.size(); ++i) parameters[i].copy_(saved[i]);
}

WeightAverage::WeightAverage(std::shared_ptr<torch::nn::Module> module, double decay)
    : module_(std::move(module)), decay_(decay) {
  ISOBAR_CHECK(decay > 0 && decay < 1, "WeightAverage: decay must lie between 0 and 1, got ",
               decay);
  for (const auto& parameter : module_->parameters()) {
    averages_.push_back(parameter.detach().clone());
  }
}

void WeightAverage::update() {
  c10::NoGradGuard no_grad;
  ++updates_;
  const auto n = static_cast<double>(updates_);
  const double decay = std::min(decay_, (1 + n) / (10 + n));
  const auto parameters = module_->parameters();
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].lerp_(parameters[i], 1 - decay);
}

void WeightAverage::swap() {
  c10::NoGradGuard no_grad;
  auto parameters = module_->parameters();
  for (size_t i = 0; i < averages_.size(); ++i) {
    const auto kept = parameters[i].detach().clone();
    parameters[i].copy_(averages_[i]);
    averages_[i].copy_(kept);
  }
}

void WeightAverage::save(StateDict& state) const {
  const auto names = module_->named_parameters().keys();
  for (size_t i = 0; i < averages_.size(); ++i) state.put(names[i], averages_[i]);
  state.put_scalar("updates", updates_);
}

void WeightAverage::load(const StateDict& state, int) {
  c10::NoGradGuard no_grad;
  const auto saved = matching(*module_, state, name());
  updates_ = state.integer("updates");
  for (size_t i = 0; i < saved.size(); ++i) averages_[i].copy_(saved[i]);
}

}  // namespace isobar
