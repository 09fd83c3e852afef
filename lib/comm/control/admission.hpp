// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "comm/control/acceptor.hpp"
#include "comm/control/join.hpp"

namespace isobar::control {

/// Rank 0's part, itself known as `own`: blocks until all have come. What goes wrong is thrown here
/// and told to all who come: UsageError where two call themselves one rank or sizes differ,
/// CommError naming those who have not come in time.
/// `mistake`, where given, is one that was made before anybody came.
Joined admit_all(const ControlOptions& options, const Hello& own, Acceptor& acceptor,
                 const std::optional<std::string>& mistake = std::nullopt);

}  // namespace isobar::control
