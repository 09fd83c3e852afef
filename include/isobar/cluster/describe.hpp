// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/profile.hpp>

#include <string>
#include <vector>

namespace isobar {

/// A value of a profile, for people.
struct ProfileLine {
  std::string key;  ///< as in the profile's file, with dots: "network.cell_nodes"
  std::string value;
  std::string unverified;  ///< why it is not certain; empty where it is
  bool overlaid = false;   ///< set by the user's file
};

/// All that is known of a machine, in the order of its file. A queue is one line.
std::vector<ProfileLine> describe_profile(const ClusterProfile& profile);

/// What ranks have in their environment there, ISOBAR_CLUSTER among it: lines "NAME=value".
std::string environment_lines(const ClusterProfile& profile);

/// The same as lines "export NAME=value" for a shell's eval, which puts in variables ($USER).
std::string export_lines(const ClusterProfile& profile);

}  // namespace isobar
