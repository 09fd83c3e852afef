// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace isobar::bench {

/// Of a list as the kernel and Slurm write it, "0-3,8,10-11", ascending. Throws UsageError.
std::vector<int> parse_core_list(const std::string& text);

/// As the kernel writes it; "none" for none.
std::string core_list_text(const std::vector<int>& cores);

/// What two ascending lists share.
std::vector<int> common_cores(const std::vector<int>& a, const std::vector<int>& b);

}  // namespace isobar::bench
