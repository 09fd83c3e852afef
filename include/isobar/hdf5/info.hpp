// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

namespace isobar {

/// The HDF5 library that this program runs with.
struct Hdf5Info {
  std::string version;                  ///< such as "1.10.8"
  std::map<std::string, bool> filters;  ///< whether it can read deflate, shuffle, fletcher32, szip
};

Hdf5Info hdf5_info();

}  // namespace isobar
