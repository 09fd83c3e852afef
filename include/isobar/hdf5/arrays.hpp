// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/hdf5/handle.hpp>
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

// Datasets that carry the hash of their bytes. The caller holds an Hdf5Session.

namespace isobar {

/// Writes a contiguous float64, float32 or int32 tensor on the CPU as the dataset
/// `name`, whose group exists. Returns its hash.
std::string write_array(hid_t file, const std::string& name, const at::Tensor& values);

/// The hash is XXH3-128 of the values' bytes.
struct HashedArray {
  at::Tensor values;
  std::string hash;
};

/// What an array of a file has to be, and the words for one that is not.
struct WantedArray {
  at::ScalarType type = at::kFloat;
  /// Of each dimension; -1 for any length.
  std::vector<int64_t> shape;
  /// What is in such a file: "a graph".
  std::string owner;
  /// What to do where it is damaged: "build the graph again".
  std::string remedy;
};

/// Reads what write_array() wrote. Throws DataError naming path and dataset where it is not there,
/// is another, or is not what was written.
HashedArray read_array(hid_t file, const std::filesystem::path& path, const std::string& name,
                       const WantedArray& wanted);

}  // namespace isobar
