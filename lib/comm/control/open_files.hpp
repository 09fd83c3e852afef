// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace isobar::control {

/// How many connections of processes that have not shown who they are may wait at rank 0, beside
/// the ranks that are still to come.
inline constexpr size_t kMostStrangers = 256;

/// Lets this process have as many open files as a world of `size` ranks wants: a control connection
/// to each on rank 0, and on any rank a transport's to each other one. Raises the soft limit as far
/// as the hard one goes. Empty, or why rank 0 cannot have its connections, with the limit that it
/// needs.
std::optional<std::string> raise_open_files(int rank, int size);

/// kMostStrangers, or fewer where the limit of open files is low: a fourth of it.
size_t most_strangers();

}  // namespace isobar::control
