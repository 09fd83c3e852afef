// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <ATen/core/Tensor.h>

#include <string>

namespace isobar {

/// The type as users write it, such as "float32".
std::string type_name(at::ScalarType type);

/// Types that can be moved, and those of them that can be reduced (all but bool).
bool can_move(at::ScalarType type) noexcept;
bool can_reduce(at::ScalarType type) noexcept;

/// The type in which values are combined: float32 for the 16-bit floats, since a
/// sum in 8 bits of mantissa loses what the ranks' gradients differ in; itself
/// otherwise.
at::ScalarType accumulation_type(at::ScalarType type) noexcept;

/// A contiguous copy on the CPU in the accumulation type.
at::Tensor widened(const at::Tensor& tensor);

/// into[i] = into[i] op from[i], `into` in the accumulation type of `from`'s.
void combine(const at::Tensor& into, const at::Tensor& from, ReduceOp op);

/// Copies elements [first, first + to.numel()) of `from`, in the accumulation
/// type, rounded to the type of `to`.
void narrow_into(const at::Tensor& to, const at::Tensor& from, int64_t first = 0);

}  // namespace isobar
