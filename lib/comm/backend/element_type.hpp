// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
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

/// Calls visit(T{}, A{}) with a type that can be reduced and its accumulation type.
template <typename Visit>
void visit_type(at::ScalarType type, const Visit& visit) {
  switch (type) {
    case at::kByte:
      return visit(uint8_t{}, uint8_t{});
    case at::kChar:
      return visit(int8_t{}, int8_t{});
    case at::kShort:
      return visit(int16_t{}, int16_t{});
    case at::kInt:
      return visit(int32_t{}, int32_t{});
    case at::kLong:
      return visit(int64_t{}, int64_t{});
    case at::kHalf:
      return visit(at::Half{}, float{});
    case at::kBFloat16:
      return visit(at::BFloat16{}, float{});
    case at::kFloat:
      return visit(float{}, float{});
    case at::kDouble:
      return visit(double{}, double{});
    default:
      throw UsageError("reduction of " + type_name(type) + ": this type cannot be reduced");
  }
}

}  // namespace isobar
