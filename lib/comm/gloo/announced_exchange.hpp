// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/schedule/schedule.hpp"

namespace isobar {

/// exchange_schedule() for `operation`, an all_to_all, after a message from each rank to each
/// other that says how many rows it sends. Gloo takes a message that is shorter than what was
/// asked for as a whole one, so nothing else would tell; a longer one it does not survive. The
/// schedule's check throws CommError where a rank sends what this one does not expect.
Schedule announced_exchange(const Operation& operation, int rank, int size,
                            const ScheduleTuning& tuning);

}  // namespace isobar
