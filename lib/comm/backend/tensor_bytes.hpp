// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstring>

namespace isobar {

/// Where a contiguous tensor's values begin, to count on in bytes.
inline char* bytes_of(const at::Tensor& tensor) { return static_cast<char*>(tensor.data_ptr()); }

/// The same to read; a tensor that shares its memory until it is written keeps sharing it.
inline const char* const_bytes_of(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.const_data_ptr());
}

/// How many bytes they are; none of an undefined tensor.
inline int64_t byte_count(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

/// As memcpy(), but nothing where there is nothing: an empty tensor may have no memory.
inline void copy_bytes(void* to, const void* from, int64_t count) {
  if (count > 0) std::memcpy(to, from, static_cast<size_t>(count));
}

}  // namespace isobar
