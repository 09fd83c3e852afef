// SPDX-License-Identifier: Apache-2.0
#include "comm/schedule/schedule.hpp"

#include "comm/reduce_kernels.hpp"

namespace isobar {

size_t combine_arrived(const Schedule& schedule, size_t first, int64_t arrived) {
  const auto& all = schedule.combinations;
  while (first < all.size() && all[first].when_arrived <= arrived) {
    const auto& next = all[first++];
    combine_in_order(next.to, next.parts, next.count, schedule.type, schedule.op);
  }
  return first;
}

}  // namespace isobar
