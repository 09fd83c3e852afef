// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace isobar {

/// What `isobar doctor` is asked for.
struct DoctorArguments {
  std::string json;  ///< file, "-" for standard output, empty for none
  bool whole_cluster = false;
  std::string cluster;  ///< the profile's name; empty: this machine's
  bool binding = false;
  std::vector<std::string> folders;  ///< empty: the current one
  std::string device;                ///< empty: auto
  std::string backend;               ///< empty: auto
  std::vector<std::string> command;
};

/// Looks at all nodes of the allocation (`whole_cluster`), at where its ranks run (`binding`), or
/// at both, and prints a verdict a line on rank 0. Returns 0 if nothing failed.
int run_cluster_doctor(const DoctorArguments& arguments);

/// What `isobar --version` prints.
std::string version_text();

}  // namespace isobar
