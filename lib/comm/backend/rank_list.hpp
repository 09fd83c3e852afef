// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace isobar {

inline constexpr size_t kAllRanks = std::numeric_limits<size_t>::max();

/// What `name` calls the ranks, joined by commas; of more than `most` the first: "a, b and 3 more".
std::string names_of(const std::vector<int>& ranks, const std::function<std::string(int)>& name,
                     size_t most = kAllRanks);

/// "rank 2", "ranks 2, 3", "ranks 2, 3 and 9 more"; empty for none.
std::string rank_list(const std::vector<int>& ranks, size_t most = kAllRanks);

}  // namespace isobar
