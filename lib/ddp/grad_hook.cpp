// SPDX-License-Identifier: Apache-2.0
#include "ddp/grad_hook.hpp"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

using torch::autograd::variable_list;

struct Before final : torch::autograd::FunctionPreHook {
  Before(std::shared_ptr<GradOwner> owner, std::function<void()> call)
      : owner(std::move(owner)), call(std::move(call)) {}
  variable_list operator()(const variable_list& grads) override {
    if (!owner->is_replaced && !grads.empty() && grads.front().defined()) call();
    return grads;
  }
  std::shared_ptr<GradOwner> owner;
  std::function<void()> call;
};

struct After final : torch::autograd::FunctionPostHook {
  After(std::shared_ptr<GradOwner> owner, std::function<void()> call)
      : owner(std::move(owner)), call(std::move(call)) {}
  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    if (!owner->is_replaced) call();
    return outputs;
  }
  std::shared_ptr<GradOwner> owner;
  std::function<void()> call;
};

}  // namespace

// A std::shared_ptr until LibTorch 2.12, a c10::intrusive_ptr since.
struct GradHook::Accumulator {
  decltype(torch::autograd::impl::grad_accumulator(std::declval<const at::Tensor&>())) node;
};

GradHook::GradHook(const at::Tensor& leaf, std::shared_ptr<GradOwner> owner,
                   std::function<void()> before, std::function<void()> after)
    : accumulator_(new Accumulator{torch::autograd::impl::grad_accumulator(leaf)}) {
  auto& node = *accumulator_->node;
  auto pre_hook = std::make_unique<Before>(owner, std::move(before));
  before_ = pre_hook.get();
  node.add_pre_hook(std::move(pre_hook));
  after_ = node.add_post_hook(std::make_unique<After>(std::move(owner), std::move(after)));
}

GradHook::GradHook(GradHook&&) noexcept = default;

GradHook::~GradHook() {
  if (!accumulator_) return;
  accumulator_->node->del_post_hook(after_);
  auto& hooks = accumulator_->node->pre_hooks();
  hooks.erase(std::remove_if(hooks.begin(), hooks.end(),
                             [&](const auto& hook) { return hook.get() == before_; }),
              hooks.end());
}

bool GradHook::is_attached(const at::Tensor& leaf) const {
  return torch::autograd::impl::try_get_grad_accumulator(leaf) == accumulator_->node;
}

std::shared_ptr<GradOwner> GradHook::owner_of(const at::Tensor& leaf) {
  const auto accumulator = torch::autograd::impl::try_get_grad_accumulator(leaf);
  if (!accumulator) return nullptr;
  for (const auto& hook : accumulator->pre_hooks()) {
    const auto* before = dynamic_cast<const Before*>(hook.get());
    if (before && !before->owner->is_replaced) return before->owner;
  }
  return nullptr;
}

}  // namespace isobar
