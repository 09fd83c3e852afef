// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/file_hash.hpp>
#include <isobar/train/state.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace isobar {

inline constexpr const char* kManifestName = "manifest.json";

struct ManifestPart {
  std::string name;
  int version = 0;
  std::string file;
  FileHash hash;
  std::map<std::string, StateScalar> scalars;
};

/// A checkpoint's table of contents; it carries a hash of itself.
struct Manifest {
  std::int64_t step = 0;
  std::map<std::string, std::string> metadata;
  std::vector<ManifestPart> parts;
};

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

/// Throws DataError where it is missing, damaged or of a newer format.
Manifest read_manifest(const std::filesystem::path& folder);

/// Throws DataError where the part's file is not what the manifest says.
void verify_part(const std::filesystem::path& folder, const ManifestPart& part);

}  // namespace isobar
