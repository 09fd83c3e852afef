// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/hdf5/handle.hpp>

#include <filesystem>
#include <string>
#include <string_view>

// The caller holds an Hdf5Session.

namespace isobar {

/// Opens a file for reading, without a lock: parallel file systems mounted without flock refuse to
/// give one. Throws DataError "what: cause" where that is no file of HDF5's.
Hdf5Handle open_to_read(const std::filesystem::path& path, std::string_view what);

/// A new HDF5 file in place of the one at `path`, whose bytes follow from what is written alone:
/// without dates, with checksums of its metadata. Throws DataError.
Hdf5Handle create_file(const std::filesystem::path& path);

/// A group without a date. Throws DataError.
void create_group(hid_t file, const std::string& name);

/// Properties of `kind`, such as H5P_DATASET_CREATE, by which what is made carries no date: dates
/// would make files of one content differ.
Hdf5Handle undated(hid_t kind);

}  // namespace isobar
