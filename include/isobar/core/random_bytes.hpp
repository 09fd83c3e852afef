// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace isobar {

/// Bytes of the system's generator, which nobody can guess: for secrets, not for draws that a seed
/// repeats. Blocks only right after a machine has started. Throws Error where there is none.
std::string random_bytes(std::size_t count);

}  // namespace isobar
