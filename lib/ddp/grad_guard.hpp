// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace isobar {

/// A tensor that shows the memory of another and notices whoever writes to it: what is
/// written goes into a copy, which is made then. It is what a parameter has as `.grad` while
/// its gradient is under way and belongs to the reducer.
class GradGuard {
 public:
  /// `shown` is dense, and its memory is kept alive.
  explicit GradGuard(const at::Tensor& shown);
  /// Whoever still holds the tensor gets a copy of his own.
  ~GradGuard();
  GradGuard(GradGuard&&) noexcept = default;
  GradGuard& operator=(GradGuard&& other) noexcept;

  const at::Tensor& tensor() const { return tensor_; }

  /// True once something has asked to write to it, through whatever alias.
  bool is_touched() const;

 private:
  c10::DataPtr anchor_;  ///< a second reference: the last one would be given the memory itself
  at::Tensor tensor_;
};

}  // namespace isobar
