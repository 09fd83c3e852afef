// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace isobar {

/// A file of scripts/slurm/clusters as it was when the library was built.
struct BuiltinProfile {
  std::string name;  ///< the file's, without .yaml
  std::string text;
};

/// Sorted by name. Written by CMake (builtin_profiles.cmake).
std::vector<BuiltinProfile> builtin_profiles();

}  // namespace isobar
