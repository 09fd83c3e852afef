// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

namespace isobar::detail {

/// The terminal on which a person sees what is written to standard error, or nothing. Its columns
/// are 80 where it does not tell them.
///
/// Under mpirun standard error of a rank on this machine is a pipe to the launcher, which copies it
/// as it comes: then the launcher's own is asked.
struct Terminal {
  int columns = 80;
};
std::optional<Terminal> standard_error_terminal();

}  // namespace isobar::detail
