// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/preflight.hpp>

#include <cstdint>
#include <string>

namespace isobar::bench {

/// Writes a file of so many bytes to the folder, waits until it is on the disk, reads it back and
/// removes it. `who` is in the file's name, and in its bytes. Does not throw.
FolderReport try_folder(const std::string& folder, std::int64_t bytes, const std::string& who);

}  // namespace isobar::bench
