// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace isobar {

/// Throws DataError unless a file is HDF5: it says what the file is instead, from its first bytes,
/// and what to do.
void check_is_hdf5(const std::string& path);

}  // namespace isobar
