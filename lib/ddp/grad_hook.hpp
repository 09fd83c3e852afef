// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace torch::autograd {
struct Node;
}

namespace isobar {

/// Calls back around the accumulation of one leaf's gradient.
///
/// The leaf owns its gradient accumulator only weakly: unless somebody holds
/// it, a new one without hooks takes its place. So this object holds it.
class GradHook {
 public:
  /// `before` runs before a gradient is accumulated and may throw to refuse it; one
  /// that is undefined changes nothing and is not announced. `after` runs once `.grad`
  /// has changed, or would have, had the gradient been defined. Both run on
  /// autograd's thread.
  GradHook(const at::Tensor& leaf, std::function<void()> before, std::function<void()> after);
  ~GradHook();
  GradHook(GradHook&&) noexcept = default;
  GradHook(const GradHook&) = delete;

  /// False once the leaf was moved or retyped: then it has lost its hooks.
  bool is_attached(const at::Tensor& leaf) const;

 private:
  std::shared_ptr<torch::autograd::Node> accumulator_;
  const void* before_ = nullptr;
  uintptr_t after_ = 0;
};

}  // namespace isobar
