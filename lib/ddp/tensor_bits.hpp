// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// Why a tensor cannot be copied to other ranks or hashed, such as "is quantized"; empty: it
/// can. What can be: every type, strided in any way (expanded, overlapping, conjugate) or sparse.
std::string obstacle_to_copying(const at::Tensor& tensor);

/// The strided tensors that a tensor consists of: itself or, of a sparse one, its indices and
/// values. They share its memory.
std::vector<at::Tensor> parts_of(const at::Tensor& tensor);

/// "Float [3, 4]"; of a sparse one also what its parts' sizes depend on.
std::string describe_layout(const at::Tensor& tensor);

/// A strided tensor's values, in the order of its shape, as bytes: one-dimensional. May share
/// its memory.
at::Tensor raw_bytes(const at::Tensor& strided);

/// Writes what raw_bytes() a tensor of the same type and shape gave. Elements that share memory
/// are taken to be equal.
void set_raw_bytes(at::Tensor strided, const at::Tensor& bytes);

/// Of type, shape and values. From a device they are copied to the CPU.
int64_t hash_of(const at::Tensor& tensor);

}  // namespace isobar
