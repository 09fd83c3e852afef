// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/hdf5_handle.hpp"

// Datasets that carry the hash of their bytes. The caller holds an Hdf5Session.

namespace isobar::detail {

/// A new HDF5 file in place of the one at `path`.
Hdf5Handle create_file(const std::filesystem::path& path);

void create_group(hid_t file, const std::string& name);

Hdf5Handle open_to_read(const std::filesystem::path& path);

void write_text(hid_t object, const char* name, const std::string& text);

/// Throws DataError, naming `what`, where there is no text of that name.
std::string read_text(hid_t object, const char* name, const std::string& what);

/// Writes a contiguous float64, float32 or int32 tensor on the CPU as the dataset
/// `name`, whose group exists. Returns its hash.
std::string write_array(hid_t file, const std::string& name, const at::Tensor& values);

struct HashedArray {
  at::Tensor values;
  std::string hash;
};

/// Reads one of that type with `shape`, -1 for any length. Throws DataError naming
/// path and dataset where it is not there, is another, or is not what was written.
HashedArray read_array(hid_t file, const std::filesystem::path& path, const std::string& name,
                       at::ScalarType type, const std::vector<int64_t>& shape);

}  // namespace isobar::detail
