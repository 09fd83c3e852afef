// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace isobar::detail {

/// Throws what the system said last (`errno`): `action` is what could not be done to `path`.
[[noreturn]] inline void throw_file_error(const char* action, const std::filesystem::path& path) {
  throw Error(join("cannot ", action, " ", path.string(), ": ", std::strerror(errno)));
}

}  // namespace isobar::detail
