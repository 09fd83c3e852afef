// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/optimizer.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

namespace isobar {
namespace {

using torch::optim::AdamWParamState;

std::unique_ptr<torch::optim::Optimizer> make(std::vector<at::Tensor> tensors,
                                              const OptimizerOptions& options) {
  if (options.method == "adamw") {
    return std::make_unique<torch::optim::AdamW>(std::move(tensors),
                                                 torch::optim::AdamWOptions(0)
                                                     .betas({options.beta1, options.beta2})
                                                     .eps(options.epsilon)
                                                     .weight_decay(options.weight_decay));
  }
  ISOBAR_CHECK(options.method == "sgd", "Optimizer: method must be adamw or sgd, got '",
               options.method, "'");
  return std::make_unique<torch::optim::SGD>(
      std::move(tensors), torch::optim::SGDOptions(0).weight_decay(options.weight_decay));
}

/// A saved moment, as a tensor of the parameter's own type and device.
at::Tensor taken(const StateDict& state, const std::string& key, const at::Tensor& like) {
  const auto saved = state.tensor(key);
  if (saved.sizes() != like.sizes()) {
    throw DataError(detail::join("optimizer state '", key, "' has shape ", saved.sizes(),
                                 ", the parameter ", like.sizes()));
  }
  return saved.to(like.options()).clone();
}

}  // namespace

struct Optimizer::Impl {
  std::vector<NamedParameter> parameters;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
};

Optimizer::Optimizer(const std::vector<NamedParameter>& parameters, const OptimizerOptions& options)
    : impl_(std::make_unique<Impl>()) {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : parameters) tensors.push_back(parameter.tensor);
  impl_->parameters = parameters;
  impl_->optimizer = make(std::move(tensors), options);
}

Optimizer::~Optimizer() = default;

void Optimizer::step(double learning_rate) {
  for (auto& group : impl_->optimizer->param_groups()) group.options().set_lr(learning_rate);
  impl_->optimizer->step();
}

void Optimizer::save(StateDict& state) const {
  for (const auto& parameter : impl_->parameters) {
    const auto& all = impl_->optimizer->state();
    const auto found = all.find(parameter.tensor.unsafeGetTensorImpl());
    if (found == all.end()) continue;
    if (const auto* adam = dynamic_cast<const AdamWParamState*>(found->second.get())) {
      state.put(parameter.name + ".exp_avg", adam->exp_avg());
      state.put(parameter.name + ".exp_avg_sq", adam->exp_avg_sq());
      state.put_scalar(parameter.name + ".step", adam->step());
    }
  }
}

void Optimizer::load(const StateDict& state, int) {
  std::vector<std::pair<void*, std::unique_ptr<AdamWParamState>>> loaded;
  for (const auto& parameter : impl_->parameters) {
    if (!state.has(parameter.name + ".step")) continue;
    auto adam = std::make_unique<AdamWParamState>();
    adam->step(state.integer(parameter.name + ".step"));
    adam->exp_avg(taken(state, parameter.name + ".exp_avg", parameter.tensor));
    adam->exp_avg_sq(taken(state, parameter.name + ".exp_avg_sq", parameter.tensor));
    loaded.emplace_back(parameter.tensor.unsafeGetTensorImpl(), std::move(adam));
  }
  for (auto& [key, adam] : loaded) impl_->optimizer->state()[key] = std::move(adam);
}

}  // namespace isobar
