// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace isobar {

/// A type of the safetensors format and LibTorch's for it.
struct SafetensorsDtype {
  std::string_view name;
  c10::ScalarType type;
  std::int64_t bytes;
};

inline constexpr std::array<SafetensorsDtype, 10> kSafetensorsDtypes{{
    {"F64", c10::ScalarType::Double, 8},
    {"F32", c10::ScalarType::Float, 4},
    {"F16", c10::ScalarType::Half, 2},
    {"BF16", c10::ScalarType::BFloat16, 2},
    {"I64", c10::ScalarType::Long, 8},
    {"I32", c10::ScalarType::Int, 4},
    {"I16", c10::ScalarType::Short, 2},
    {"I8", c10::ScalarType::Char, 1},
    {"U8", c10::ScalarType::Byte, 1},
    {"BOOL", c10::ScalarType::Bool, 1},
}};

/// Null where the format has no such type.
inline const SafetensorsDtype* find_dtype(c10::ScalarType type) {
  for (const SafetensorsDtype& dtype : kSafetensorsDtypes) {
    if (dtype.type == type) return &dtype;
  }
  return nullptr;
}

inline const SafetensorsDtype* find_dtype(std::string_view name) {
  for (const SafetensorsDtype& dtype : kSafetensorsDtypes) {
    if (dtype.name == name) return &dtype;
  }
  return nullptr;
}

}  // namespace isobar
