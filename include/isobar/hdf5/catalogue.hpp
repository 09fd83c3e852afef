// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/hdf5/variable.hpp>
#include <H5Ipublic.h>

#include <map>
#include <string>

namespace isobar {

/// A variable and where HDF5 has it: netCDF-4 stores one that shares its name
/// with a dimension it does not lie along under another name.
struct CatalogueEntry {
  VariableInfo info;
  std::string hdf5_path;
};

/// Everything that netCDF would call a variable, in all groups of a file.
/// `path` is for messages.
std::map<std::string, CatalogueEntry> read_catalogue(hid_t file, const std::string& path);

}  // namespace isobar
