// SPDX-License-Identifier: Apache-2.0
#include "ddp/grad_hook.hpp"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

namespace isobar {
namespace {

using torch::autograd::variable_list;

struct Before final : torch::autograd::FunctionPreHook {
  explicit Before(std::function<void()> call) : call(std::move(call)) {}
  variable_list operator()(const variable_list& grads) override {
    if (!grads.empty() && grads.front().defined()) call();
    return grads;
  }
  std::function<void()> call;
};

struct After final : torch::autograd::FunctionPostHook {
  explicit After(std::function<void()> call) : call(std::move(call)) {}
  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    call();
    return outputs;
  }
  std::function<void()> call;
};

}  // namespace

GradHook::GradHook(const at::Tensor& leaf, std::function<void()> before,
                   std::function<void()> after)
    : accumulator_(torch::autograd::impl::grad_accumulator(leaf)) {
  auto pre_hook = std::make_unique<Before>(std::move(before));
  before_ = pre_hook.get();
  accumulator_->add_pre_hook(std::move(pre_hook));
  after_ = accumulator_->add_post_hook(std::make_unique<After>(std::move(after)));
}

GradHook::~GradHook() {
  if (!accumulator_) return;
  accumulator_->del_post_hook(after_);
  auto& hooks = accumulator_->pre_hooks();
  hooks.erase(std::remove_if(hooks.begin(), hooks.end(),
                             [&](const auto& hook) { return hook.get() == before_; }),
              hooks.end());
}

bool GradHook::is_attached(const at::Tensor& leaf) const {
  return torch::autograd::impl::try_get_grad_accumulator(leaf) == accumulator_;
}

}  // namespace isobar
