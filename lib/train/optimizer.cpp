// SPDX-License-Identifier: Apache-2.0
// Called by the trainer after each step's gradients, on the loop's thread; saved and loaded between
// steps. Communicates only through finish().
//
// Its state has one form, by parameter and in the reducer's order, whether the update is fused or
// LibTorch's: a checkpoint of the one is loaded by the other, and neither the plan of buckets nor
// the addresses of tensors are in it. A parameter that was never updated has none, and begins anew.
#include <isobar/train/optimizer.hpp>

#include <isobar/core/error.hpp>
#include <isobar/ddp/flat_optimizer.hpp>
#include <ATen/ATen.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

namespace isobar {
namespace {

using torch::optim::AdamWParamState;
using torch::optim::SGDParamState;

UpdateRule rule_of(const OptimizerOptions& options) {
  ISOBAR_CHECK(options.method == "adamw" || options.method == "sgd",
               "Optimizer: method must be adamw or sgd, got '", options.method, "'");
  return options.method == "adamw" ? UpdateRule::adamw : UpdateRule::sgd;
}

std::unique_ptr<torch::optim::Optimizer> make_unfused(const std::vector<NamedParameter>& parameters,
                                                      const OptimizerOptions& options) {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : parameters) tensors.push_back(parameter.tensor);
  if (rule_of(options) == UpdateRule::adamw) {
    return std::make_unique<torch::optim::AdamW>(std::move(tensors),
                                                 torch::optim::AdamWOptions(0)
                                                     .betas({options.beta1, options.beta2})
                                                     .eps(options.epsilon)
                                                     .weight_decay(options.weight_decay));
  }
  return std::make_unique<torch::optim::SGD>(
      std::move(tensors),
      torch::optim::SGDOptions(0).momentum(options.momentum).weight_decay(options.weight_decay));
}

std::unique_ptr<FlatOptimizer> make_fused(Reducer& reducer, const OptimizerOptions& options) {
  const auto rule = rule_of(options);
  const bool possible = FlatOptimizer::obstacle(reducer.parameters()).empty();
  if (options.fused == FusedUpdate::off) return nullptr;
  if (options.fused == FusedUpdate::automatic && !possible) return nullptr;
  return std::make_unique<FlatOptimizer>(
      reducer, FlatOptimizerOptions{.rule = rule,
                                    .beta1 = options.beta1,
                                    .beta2 = options.beta2,
                                    .epsilon = options.epsilon,
                                    .momentum = options.momentum,
                                    .weight_decay = options.weight_decay});
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
  std::vector<ParameterState> states() const;
  std::vector<ParameterState> unfused_states() const;
  void load_unfused(const std::vector<ParameterState>& states);
  std::vector<ParameterState> read(const StateDict& state) const;

  std::vector<NamedParameter> parameters;
  UpdateRule rule;
  bool has_momentum;
  std::unique_ptr<FlatOptimizer> flat{};  ///< or `unfused`
  std::unique_ptr<torch::optim::Optimizer> unfused{};
};

Optimizer::Optimizer(const std::vector<NamedParameter>& parameters, const OptimizerOptions& options)
    : impl_(new Impl{parameters, rule_of(options), options.momentum != 0}) {
  impl_->unfused = make_unfused(parameters, options);
}

Optimizer::Optimizer(Reducer& reducer, const OptimizerOptions& options)
    : impl_(new Impl{reducer.parameters(), rule_of(options), options.momentum != 0}) {
  impl_->flat = make_fused(reducer, options);
  if (!impl_->flat) impl_->unfused = make_unfused(impl_->parameters, options);
}

Optimizer::~Optimizer() = default;

bool Optimizer::fused() const noexcept { return impl_->flat != nullptr; }

void Optimizer::step(double learning_rate) {
  if (impl_->flat) {
    impl_->flat->step(learning_rate);
    return;
  }
  for (auto& group : impl_->unfused->param_groups()) group.options().set_lr(learning_rate);
  impl_->unfused->step();
}

BucketCallback Optimizer::on_bucket(double learning_rate) {
  return impl_->flat ? impl_->flat->on_bucket(learning_rate) : BucketCallback();
}

void Optimizer::finish(DataParallel& parallel, double learning_rate) {
  if (impl_->flat) {
    parallel.finish(on_bucket(learning_rate));
  } else {
    parallel.finish();
    step(learning_rate);
  }
}

std::vector<ParameterState> Optimizer::Impl::states() const {
  return flat ? flat->state() : unfused_states();
}

std::vector<ParameterState> Optimizer::Impl::unfused_states() const {
  std::vector<ParameterState> result;
  for (const auto& parameter : parameters) {
    const auto found = unfused->state().find(parameter.tensor.unsafeGetTensorImpl());
    if (found == unfused->state().end()) continue;
    if (const auto* adam = dynamic_cast<const AdamWParamState*>(found->second.get())) {
      result.push_back({parameter.name,
                        adam->step(),
                        {{"exp_avg", adam->exp_avg()}, {"exp_avg_sq", adam->exp_avg_sq()}}});
    } else if (const auto* sgd = dynamic_cast<const SGDParamState*>(found->second.get())) {
      result.push_back({parameter.name, 1, {{"momentum_buffer", sgd->momentum_buffer()}}});
    }
  }
  return result;
}

void Optimizer::save(StateDict& state) const {
  for (const auto& saved : impl_->states()) {
    for (const auto& [name, tensor] : saved.moments)
      state.put(saved.parameter + "." + name, tensor);
    if (impl_->rule == UpdateRule::adamw) state.put_scalar(saved.parameter + ".step", saved.step);
  }
}

std::vector<ParameterState> Optimizer::Impl::read(const StateDict& state) const {
  std::vector<ParameterState> result;
  for (const auto& [name, tensor, reduction] : parameters) {
    const auto moment = [&, &name = name, &tensor = tensor](const std::string& key) {
      return std::pair(key, taken(state, name + "." + key, tensor));
    };
    if (rule == UpdateRule::adamw && state.has(name + ".step")) {
      result.push_back(
          {name, state.integer(name + ".step"), {moment("exp_avg"), moment("exp_avg_sq")}});
    } else if (has_momentum && state.has(name + ".momentum_buffer")) {
      result.push_back({name, 1, {moment("momentum_buffer")}});
    }
  }
  return result;
}

void Optimizer::Impl::load_unfused(const std::vector<ParameterState>& states) {
  unfused->state().clear();
  auto next = states.begin();
  for (const auto& parameter : parameters) {
    if (next == states.end() || next->parameter != parameter.name) continue;
    auto& slot = unfused->state()[parameter.tensor.unsafeGetTensorImpl()];
    if (rule == UpdateRule::adamw) {
      auto adam = std::make_unique<AdamWParamState>();
      adam->step(next->step);
      adam->exp_avg(next->moments[0].second);
      adam->exp_avg_sq(next->moments[1].second);
      slot = std::move(adam);
    } else {
      auto sgd = std::make_unique<SGDParamState>();
      sgd->momentum_buffer(next->moments[0].second);
      slot = std::move(sgd);
    }
    ++next;
  }
}

void Optimizer::load(const StateDict& state, int) {
  const auto states = impl_->read(state);
  if (impl_->flat) {
    impl_->flat->load(states);
  } else {
    impl_->load_unfused(states);
  }
}

}  // namespace isobar
