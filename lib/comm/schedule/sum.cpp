// SPDX-License-Identifier: Apache-2.0
#include <bit>

#include "comm/schedule/schedule.hpp"

namespace isobar {

// By owners a rank sends 2(n-1) messages, and in a ring as many wait for each other: both grow with
// the ranks, where halving's grow with their logarithm. Only where the ranks are no power of two
// does it move twice a ring's bytes.
MakeSchedule sum_schedule(OperationKind kind, int64_t bytes, int size,
                          const ScheduleTuning& tuning) {
  if (kind == OperationKind::allreduce && size > tuning.few_ranks) {
    const bool as_short_as_a_ring = std::has_single_bit(static_cast<unsigned>(size));
    const bool fits = bytes <= tuning.halving_bytes_each_rank * size;
    return as_short_as_a_ring || fits ? halving_schedule : ring_schedule;
  }
  return bytes <= tuning.owner_bytes_each_rank * size ? owner_schedule : ring_schedule;
}

}  // namespace isobar
