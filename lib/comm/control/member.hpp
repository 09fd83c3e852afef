// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "comm/control/loop.hpp"

namespace isobar::control {

/// The control thread of any other rank, which has one connection, to rank 0: it joins first, which
/// blocks until all are there. Rank and size in `options` become those of the world that came
/// together.
std::unique_ptr<Loop> make_member(ControlOptions& options, std::shared_ptr<FirstCause> cause,
                                  std::string& own_address);

}  // namespace isobar::control
