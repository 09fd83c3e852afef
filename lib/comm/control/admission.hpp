// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/control/acceptor.hpp"
#include "comm/control/join.hpp"

namespace isobar::control {

/// Rank 0's part, itself known as `own`: blocks until all have come. What goes wrong is thrown here
/// and told to all who come: UsageError where two call themselves one rank or sizes differ,
/// CommError naming those who have not come in time.
Joined admit_all(const ControlOptions& options, const Hello& own, Acceptor& acceptor);

}  // namespace isobar::control
