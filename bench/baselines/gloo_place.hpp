// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "bench/baselines/gloo_subject.hpp"

namespace isobar::bench {

/// HOST[:PORT] from MASTER_ADDR and MASTER_PORT; this machine where there are none.
std::string master_address();

/// This process's place for all_gather, and HOST[:PORT] at which rank 0 is found. Throws
/// UsageError for a port that is none.
GlooSubjectOptions gloo_place(const std::string& address);

}  // namespace isobar::bench
