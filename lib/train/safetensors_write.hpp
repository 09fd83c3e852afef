// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/file_hash.hpp>
#include <isobar/train/safetensors.hpp>

#include <filesystem>
#include <map>
#include <string>

namespace isobar {

/// write_safetensors(), and the hash of the bytes that were meant to be written:
/// what comes back from the disk is compared with it.
FileHash write_and_hash_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                                    const std::map<std::string, std::string>& metadata = {});

}  // namespace isobar
