// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "comm/control/loop.hpp"

namespace isobar::control {

/// Rank 0's control thread, which has a connection to every rank: it admits them first, which
/// blocks until all are there. Size in `options` becomes that of the world that came together.
std::unique_ptr<Loop> make_coordinator(ControlOptions& options, int listener,
                                       std::shared_ptr<FirstCause> cause, std::string& own_address);

}  // namespace isobar::control
