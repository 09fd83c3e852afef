// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/element_type.hpp"

#include <algorithm>

namespace isobar {

std::string type_name(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

bool can_reduce(at::ScalarType type) noexcept {
  constexpr at::ScalarType kTypes[] = {at::kByte, at::kChar,     at::kShort, at::kInt,   at::kLong,
                                       at::kHalf, at::kBFloat16, at::kFloat, at::kDouble};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

bool can_move(at::ScalarType type) noexcept { return type == at::kBool || can_reduce(type); }

at::ScalarType accumulation_type(at::ScalarType type) noexcept {
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

}  // namespace isobar
