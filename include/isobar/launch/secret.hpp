// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/launch/environment.hpp>

#include <cstddef>
#include <optional>
#include <string>

namespace isobar {

/// The least that ISOBAR_SECRET and the file of ISOBAR_SECRET_FILE may hold.
inline constexpr std::size_t kSecretBytes = 16;

/// What ISOBAR_SECRET says, else what is in the file that ISOBAR_SECRET_FILE names, without the end
/// of its last line; none where neither is set. Throws UsageError where it is shorter than
/// kSecretBytes, and for a file that is not this user's or that others may read.
std::optional<std::string> configured_secret();

/// What this user's processes know and nobody else: configured_secret(), else 32 random bytes in
/// ${XDG_STATE_HOME:-$HOME/.local/state}/isobar/secret, which is made where it is not there, once,
/// by whichever rank of whichever node comes first. Where no home can be written, in a folder of
/// TMPDIR for ranks of one node. Reads and writes files; may block as they do. Throws UsageError
/// in one line, which never shows the secret, where owner or mode of folder or file is wrong, and
/// where there is no place for it. Never empty; not for logs, arguments or records.
std::string user_secret(const LaunchEnvironment& launch);

}  // namespace isobar
