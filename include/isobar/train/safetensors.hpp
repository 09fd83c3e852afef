// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

/// Tensors under names, in an order.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// What a safetensors file holds.
struct SafetensorsContent {
  NamedTensors tensors;
  /// The free text of the header's `__metadata__`.
  std::map<std::string, std::string> metadata;
};

/// Writes tensors in the safetensors format (huggingface/safetensors, format
/// description in its README), complete or not at all.
///
/// The file is the length of the header (8 bytes, little-endian), the header
/// (JSON: dtype, shape and data_offsets by name, padded with spaces to 8 bytes)
/// and the values, row-major and without gaps. Wider types come first, so every
/// tensor is aligned; within a type the order stays. Tensors may lie on any
/// device and need not be contiguous; one at a time is copied where needed.
///
/// Types: float64, float32, float16, bfloat16, int64, int32, int16, int8,
/// uint8, bool. Throws UsageError for another type, an undefined or sparse
/// tensor, a name given twice and the name `__metadata__`; Error where the file
/// cannot be written.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Reads a whole file into tensors on the CPU, in the order of their values.
///
/// Everything is checked before a tensor is made: lengths, names, types, shapes,
/// and that the values follow each other without gap or overlap up to the end of
/// the file. Throws DataError naming file and tensor.
SafetensorsContent read_safetensors(const std::filesystem::path& path);

}  // namespace isobar
