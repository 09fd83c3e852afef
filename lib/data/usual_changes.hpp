// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace isobar {

/// From which root mean square on the change of a field over a step is far larger than others of
/// the variable.
struct LargeChange {
  double usual = 0;  ///< what 98 % of the changes are below
  double from = 0;   ///< infinite where too few changes are known
};

/// Three times as large as 98 % of them, or, of a variable whose large changes are many times as
/// large as half of all (rain), as many more: a storm is weather. A field that was turned or mixed
/// up makes two changes, when it comes and when it goes. Those that are 0 do not count.
LargeChange large_change(std::vector<double> changes);

/// What a field is beside the one a step before.
enum class Repeat { unknown, changed, unchanged };

/// Positions of unchanged fields that stand in runs much longer than the variable's usual ones:
/// that of the sea's temperature may come once a day, a mask never changes.
std::vector<int64_t> unusual_repeats(const std::vector<Repeat>& fields);

}  // namespace isobar
