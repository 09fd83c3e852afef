// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace torch::nn {
class Module;
}

namespace isobar {

/// Who reduces a parameter's gradient. Its hooks share it, so that whoever wraps the
/// parameter once more finds it.
struct GradOwner {
  std::string name;  ///< "reducer 0" or "the DataParallel of 'Encoder'"
  const torch::nn::Module* module =
      nullptr;  ///< that it was made for; null for a reducer by itself
  /// Another one has taken its place: its hooks do nothing, and it refuses to be used.
  bool is_replaced = false;
  bool is_finishing = false;  ///< it is in finish(), and may be handing over buckets
  bool is_gone = false;       ///< it was destroyed, in finish() perhaps
  /// How many AccumulationScopes are alive. They may outlive it.
  std::shared_ptr<int64_t> scopes = std::make_shared<int64_t>(0);
};

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
  GradHook(const at::Tensor& leaf, std::shared_ptr<GradOwner> owner, std::function<void()> before,
           std::function<void()> after);
  ~GradHook();
  GradHook(GradHook&&) noexcept;
  GradHook(const GradHook&) = delete;

  /// False once the leaf was moved or retyped: then it has lost its hooks.
  bool is_attached(const at::Tensor& leaf) const;

  /// The one whose hooks the leaf has and that nobody has replaced; null for none.
  static std::shared_ptr<GradOwner> owner_of(const at::Tensor& leaf);

 private:
  struct Accumulator;  ///< holds it by LibTorch's pointer, whose type has changed
  std::unique_ptr<Accumulator> accumulator_;
  const void* before_ = nullptr;
  uintptr_t after_ = 0;
};

}  // namespace isobar
